//! The page at `/` in a browser, and what programs that watch see: Prometheus, dashboard, alerts.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::check::{During, Failure, Result, ensure, wait};
use crate::clients::{Background, attempt, curl, get, run};
use crate::espressobin::board::{Board, Running, cached, tree};
use crate::machine::Machine;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "page-assets",
        tier: Tier::Quick,
        needs: Needs::Qemu,
        limit_s: 120,
        run: assets,
    },
    Test {
        name: "page-live",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: live,
    },
    Test {
        name: "page-private",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: private,
    },
    Test {
        name: "faults-page",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: bad_end,
    },
    Test {
        name: "page-prometheus",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: prometheus,
    },
];

/// Programs for this file's tests. Large: where they cannot be installed, the tests are skipped.
pub const PACKAGES: &[(&str, &str, &str)] = &[
    (
        "chromium",
        "/usr/bin/chromium",
        "a browser that looks at the page",
    ),
    (
        "prometheus",
        "promtool",
        "scrapes the metrics, and checks the rules for alerts",
    ),
    (
        "npm",
        "npm",
        "fetches axe-core, which checks that everybody can use the page",
    ),
];

/// Style and scripts: packed for who takes that, plain for everybody else, for ever either way.
fn assets(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).user()?.boot()?;
    guest.healthy(30)?;
    let http = guest.services.http;
    let page = get(http, "/")?;
    for (field, part) in [
        (
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
        ),
        ("Content-Security-Policy", "frame-ancestors 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ] {
        let value = page.field(field).unwrap_or_default();
        ensure!(value.contains(part), "{field} is {value:?}, without {part}");
    }
    let text = String::from_utf8_lossy(&page.body).into_owned();
    ensure!(
        !text.contains("style=") && !text.contains("<style"),
        "the page has style in it"
    );
    let paths: Vec<&str> = text
        .split(['=', '>'])
        .filter(|word| word.starts_with("/assets/"))
        .collect();
    ensure!(paths.len() == 4, "not four assets: {paths:?}");
    let mut packed_bytes = 0;
    for path in paths {
        let url = format!("http://{http}{path}");
        let with = |accepts: &str| -> Result<(String, Vec<u8>)> {
            let (head, body) = (
                cx.out.join("page-assets.head"),
                cx.out.join("page-assets.body"),
            );
            curl(&[
                "-H",
                &format!("Accept-Encoding:{accepts}"),
                "-D",
                &head.display().to_string(),
                "-o",
                &body.display().to_string(),
                &url,
            ])?;
            Ok((fs::read_to_string(head)?.to_lowercase(), fs::read(body)?))
        };
        let plain = curl(&[&url])?;
        let unpacked = curl(&["--compressed", &url])?;
        ensure!(
            plain == unpacked && plain.len() > 1000,
            "{path}: unpacked it is another"
        );
        for accepts in [" gzip", " br, GZIP;q=0.5", " *", " deflate;q=0, *;q=0.1"] {
            let (head, body) = with(accepts)?;
            ensure!(
                head.contains("content-encoding: gzip\r\n") && body.starts_with(&[0x1f, 0x8b]),
                "{path} for{accepts}: {head}"
            );
            packed_bytes += if accepts == " gzip" { body.len() } else { 0 };
        }
        for accepts in [
            "",
            " br",
            " gzip;q=0",
            " *;q=0.5, gzip;q=0.000",
            " identity",
        ] {
            let (head, body) = with(accepts)?;
            ensure!(
                !head.contains("content-encoding") && body == plain.as_bytes(),
                "{path} for{accepts}: {head}"
            );
            for field in [
                "cache-control: public, max-age=31536000, immutable\r\n",
                "vary: accept-encoding\r\n",
                "x-content-type-options: nosniff\r\n",
            ] {
                ensure!(head.contains(field), "{path}: no {field} in {head}");
            }
        }
        let other = get(http, &path.replace('.', "-"))?;
        ensure!(other.code == 404, "{}: {}", path, other.code);
    }
    println!("assets: {packed_bytes} bytes packed");
    ensure!(packed_bytes < 30 << 10, "{packed_bytes} bytes of assets");
    Ok(())
}

/// What a devicetree may say to who shows it unescaped.
const NASTY_MODEL: &str = "\"><script>document.title='owned'</script>&amp;<b>'";
const NASTY_LABEL: &str = "<b>\"&'</b>";

/// Sends datagrams to the echo until dropped.
struct Traffic<'s>(&'s AtomicBool);

impl Drop for Traffic<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn live(cx: &Context) -> Result {
    let mut browser = Browser::start(cx)?;
    let mut tree = tree()?;
    tree.root
        .set("model", format!("{NASTY_MODEL}\0").as_bytes());
    let port = "/soc/internal-regs/mdio/switch0/ports/port@3";
    tree.node(port)?
        .set("label", format!("{NASTY_LABEL}\0").as_bytes());
    let mut board = Board::new(cx).tree(tree).append("admin=sesame").boot()?;
    board.leases(&[0, 1])?;
    let services = board.services(0)?;
    let url = format!("http://{}/", services.http);
    browser.view(1600, 1000, "light")?;
    browser.open(&url)?;

    // Foreign text is text: in the page as it came, and in what the script makes of it.
    browser.wait(
        10,
        "!!document.querySelector('.board') && !document.querySelector('#live').hidden",
    )?;
    let shown = browser.text("document.querySelector('header p').textContent.trim()")?;
    ensure!(shown == NASTY_MODEL, "the board's name is shown as {shown}");
    let names = "[...document.querySelectorAll('.port')].map(port => port.dataset.name).join()";
    let shown = browser.text(names)?;
    ensure!(
        shown == format!("wan,lan0,{NASTY_LABEL}"),
        "the ports are {shown}"
    );
    browser.wait(10, "!document.title.includes('owned') && document.scripts.length === 3 && !document.querySelector('header b, h3 i')")?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result {
        let traffic = Traffic(&stop);
        scope.spawn(|| echo_until(services.echo_udp, &stop));
        let frames =
            "Number(document.querySelector('.rates .rx small').textContent.replace(/[^0-9]/g, ''))";
        browser
            .wait(20, &format!("{frames} > 50"))
            .during("under load")?;
        browser.wait(
            20,
            "document.querySelectorAll('#latency .histogram').length > 0",
        )?;
        browser.wait(
            10,
            "document.querySelector('.timeline .rx').getAttribute('d').length > 20",
        )?;
        let rate = browser.text("document.querySelector('.rates .rx b').textContent")?;
        browser.wait(
            10,
            &format!("document.querySelector('.rates .rx b').textContent !== '{rate}'"),
        )?;
        flap(&mut browser, &mut board)?;
        pictures(&mut browser, cx, "", &[360, 800, 1600, 3840])?;
        drop(traffic);
        Ok(())
    })?;

    tools(&mut browser, cx)?;
    offline(&mut browser, &mut board)?;
    accessible(&mut browser)?;
    let complaints = browser.complaints();
    ensure!(
        complaints.is_empty(),
        "the browser complains: {}",
        complaints.join(" ")
    );
    board.sound()
}

fn echo_until(service: SocketAddr, stop: &AtomicBool) {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else {
        return;
    };
    let _ = socket.set_read_timeout(Some(Duration::from_millis(200)));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // Never twice the same rate.
        for _ in 0..20 + number % 30 {
            let _ = socket.send_to(&[7; 300], service);
            let _ = socket.recv(&mut [0; 512]);
        }
        number += 7;
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a cable does is seen within two seconds of the board's noticing. On a busy host one of three tries has to do.
fn flap(browser: &mut Browser, board: &mut Running) -> Result {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        for (plugged, line) in [(false, "lan0: link down"), (true, "lan0: link up")] {
            let mark = board.mark();
            board.cable(1, plugged)?;
            board.line_from(mark, line)?;
            let noticed = Instant::now();
            let article = "document.querySelectorAll('.port')[1]";
            browser.wait(
                20,
                &format!("{article}.classList.contains('down') === {}", !plugged),
            )?;
            let word = if plugged { "up" } else { "down" };
            browser.wait(
                5,
                &format!("{article}.querySelector('h3 b').textContent === '{word}'"),
            )?;
            if !plugged {
                fastest = fastest.min(noticed.elapsed());
                browser.wait(
                    5,
                    "document.querySelectorAll('.socket')[1].classList.contains('down')",
                )?;
            }
        }
        if fastest < Duration::from_secs(2) {
            println!("a flap was seen after {fastest:?}");
            return Ok(());
        }
    }
    Err(format!("a flap was seen after {fastest:?} only").into())
}

/// For people to look at: at these widths, in light and dark. Nothing may stand out at the side.
fn pictures(browser: &mut Browser, cx: &Context, state: &str, widths: &[u32]) -> Result {
    for scheme in ["light", "dark"] {
        for &width in widths {
            browser.view(width, 900, scheme)?;
            // Once drawn anew, and once more for what that moved.
            browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => true)")?;
            let wide = browser.value("document.documentElement.scrollWidth")?;
            ensure!(
                wide.as_u64() <= Some(width.into()),
                "at {width} pixels the page is {wide} wide{state}"
            );
            let file = format!("{}{state}.{width}-{scheme}.png", cx.name);
            browser.picture(&cx.out.join(file))?;
        }
    }
    browser.view(1600, 1000, "light")
}

/// The buttons: the token asked for once, a self-test and what came of it, a capture that other programs read.
fn tools(browser: &mut Browser, cx: &Context) -> Result {
    let press = |title: &str| {
        format!(
            "(() => {{ const button = [...document.querySelectorAll('button')].find(it => it.textContent === '{title}'); button.focus(); button.click(); return true; }})()"
        )
    };
    let token = |text: &str| {
        format!(
            "(() => {{ document.querySelector('dialog input').value = '{text}'; document.querySelector('dialog button').click(); return true; }})()"
        )
    };
    let asked = "!!document.querySelector('dialog[open]')";
    let said = "document.querySelector('#tools [role=status]').textContent";
    browser.wait(10, "!!document.querySelector('#tools button')")?;
    browser.value(&press("Run the self-test"))?;
    browser.wait(10, asked)?;
    browser.value(&token("open"))?;
    browser.wait(
        10,
        "document.querySelector('dialog')?.textContent.includes('That was not the token')",
    )?;
    browser.value(&token("sesame"))?;
    browser
        .wait(60, &format!("{said}.startsWith('Done: ')"))
        .during("self-test")?;
    let sum = browser.text(said)?;
    ensure!(
        sum.contains(" 0 failed") && !sum.contains(" 0 passed"),
        "self-test: {sum}"
    );
    let rows = browser.value("document.querySelectorAll('#tools tr').length")?;
    ensure!(rows.as_u64() > Some(3), "{rows} rows of results");
    remembers_nothing(browser)?;

    if browser.value("!document.querySelector('#tools select')")? == true {
        println!("this image has no capture");
        return Ok(());
    }
    let downloads = cx.out.join(format!("{}-downloads", cx.name));
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(&downloads)?;
    browser.downloads_to(&downloads)?;
    browser.value("document.querySelector('#tools input').value = 20, document.querySelector('#tools select').value = 'wan', true")?;
    browser.value(&press("Capture packets"))?;
    let file = downloads.join("capture.pcapng");
    wait(60, "the capture", || file.exists().then_some(()))?;
    ensure!(
        browser.value(asked)? == false,
        "the token was asked for again"
    );
    let (_, frames, error) = attempt(
        "tshark",
        &[
            "-r",
            &file.display().to_string(),
            "-T",
            "fields",
            "-e",
            "frame.protocols",
        ],
    )?;
    ensure!(
        frames.lines().count() == 20,
        "tshark reads {} frames: {error}",
        frames.lines().count()
    );
    ensure!(
        frames.contains("http") || frames.contains("tcp"),
        "the capture has no frame of the page itself: {frames}"
    );
    let _ = fs::remove_dir_all(&downloads);
    Ok(())
}

/// A board that does not answer: what is shown is old, and says so.
fn offline(browser: &mut Browser, board: &mut Running) -> Result {
    board.qmp()?.execute("stop", "{}")?;
    browser.wait(30, "!document.querySelector('#banner').hidden")?;
    let said = browser.text("document.querySelector('#banner').textContent")?;
    ensure!(
        said.contains("does not answer") && said.contains(" s ago"),
        "the banner says {said}"
    );
    browser.wait(
        5,
        "document.body.classList.contains('stale') && document.querySelector('#live').hidden",
    )?;
    board.qmp()?.execute("cont", "{}")?;
    browser.wait(
        30,
        "document.querySelector('#banner').hidden && !document.body.classList.contains('stale')",
    )
}

/// Whoever cannot see, cannot point or cannot tell colours apart can use the page.
fn accessible(browser: &mut Browser) -> Result {
    let script = match cached("axe-core", "axe.min.js") {
        Ok(file) => fs::read_to_string(file)?,
        // The rest was looked at.
        Err(Failure::Skipped(why)) => {
            println!("not checked with axe-core: {why}");
            return Ok(());
        }
        Err(failed) => return Err(failed),
    };
    browser.value(&format!("{script}; true"))?;
    for scheme in ["light", "dark"] {
        browser.view(360, 800, scheme)?;
        thread::sleep(Duration::from_millis(300));
        let found = browser.value("axe.run().then(({ violations, passes }) => ({ passed: passes.length, bad: violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(node => node.html + ' ' + node.failureSummary).slice(0, 3).join('; ')}`) }))")?;
        let passed = found["passed"].as_u64().unwrap_or_default();
        let bad: Vec<&str> = found["bad"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        println!(
            "axe-core, {scheme}: {passed} rules hold, {} do not: {bad:?}",
            bad.len()
        );
        let serious = bad
            .iter()
            .find(|what| what.starts_with("serious") || what.starts_with("critical"));
        ensure!(serious.is_none(), "axe-core, {scheme}: {serious:?}");
        ensure!(passed > 10, "axe-core tried {passed} rules only");
    }
    Ok(())
}

/// The longest name there may be.
const LONG_NAME: &str = "a-name-as-long-as-any-label-may-be-which-is-three-and-sixty-too";
const TOKEN: &str = "sesame";

/// `public=off`: no more than a form without the token, and everything with it.
fn private(cx: &Context) -> Result {
    let mut browser = Browser::start(cx)?;
    let append = format!("public=off admin={TOKEN} hostname={LONG_NAME}");
    let mut guest = Machine::new(cx).user()?.append(append.as_str()).boot()?;
    guest.healthy(30)?;
    let url = format!("http://{}/", guest.services.http);

    // What anybody gets says nothing of this machine: it is the same as of every other.
    let gate = get(guest.services.http, "/")?;
    ensure!(gate.code == 401, "without the token: {}", gate.code);
    for field in ["WWW-Authenticate", "Content-Security-Policy"] {
        ensure!(gate.field(field).is_some(), "no {field}");
    }
    let open = curl(&["-H", &format!("Authorization: Bearer {TOKEN}"), &url])?;
    ensure!(
        open.contains(LONG_NAME) && open.contains("data-name"),
        "{open}"
    );
    let gate = String::from_utf8_lossy(&gate.body).into_owned();
    let known = |word: &str| gate.contains(word);
    let leaked = open
        .split(|character: char| !(character.is_alphanumeric() || ":.-_".contains(character)))
        .filter(|word| {
            word.len() > 3 && word.contains(|character: char| character.is_ascii_digit())
        })
        .find(|word| known(word) && !word.starts_with("utf-8") && !is_asset(&gate, word));
    ensure!(
        leaked.is_none() && !known(LONG_NAME),
        "{leaked:?} is in {gate}"
    );

    browser.open(&url)?;
    browser.wait(20, "!!document.querySelector('#gate form')")?;
    let shown = "document.body.innerText + document.title";
    let text = browser.text(shown)?;
    ensure!(
        !text.contains("a-name") && !text.contains("10.0.2"),
        "{text}"
    );
    pictures(&mut browser, cx, "-gate", &[360, 1600])?;
    accessible(&mut browser)?;

    browser.call("Input.insertText", json!({ "text": "wrong" }))?;
    browser.key("Enter")?;
    browser.wait(
        20,
        "document.querySelector('#gate [role=alert]').textContent === 'That was not the token.'",
    )?;
    ensure!(
        browser.value("!document.querySelector('.port')")? == true,
        "a wrong token opens"
    );
    // It is selected: what is typed now stands in its place.
    browser.call("Input.insertText", json!({ "text": TOKEN }))?;
    browser.key("Enter")?;
    browser.wait(
        20,
        "!!document.querySelector('.board') && !document.querySelector('#live').hidden",
    )?;
    let text = browser.text(shown)?;
    ensure!(
        text.contains(LONG_NAME) && text.contains("10.0.2.15"),
        "{text}"
    );
    // It lives: everything that it asks for comes.
    let uptime = browser.text("document.querySelector('#machine td').textContent")?;
    browser.wait(
        20,
        &format!("document.querySelector('#machine td').textContent !== '{uptime}'"),
    )?;
    browser.wait(
        30,
        "document.querySelector('#log pre').textContent.includes('sealed')",
    )?;
    browser.wait(30, "!!document.querySelector('#tools button')")?;
    browser.value("[...document.querySelectorAll('button')].find(it => it.textContent === 'Run the self-test').click()")?;
    browser.wait(
        60,
        "document.querySelector('#tools [role=status]').textContent.startsWith('Done: ')",
    )?;
    ensure!(
        browser.value("!document.querySelector('dialog')")? == true,
        "the token was asked for again"
    );
    pictures(&mut browser, cx, "", &[360, 800])?;
    remembers_nothing(&mut browser)?;

    // Come back: it is gone with the page.
    browser.open(&url)?;
    browser.wait(
        20,
        "!!document.querySelector('#gate form') && !document.body.innerText.includes('a-name')",
    )?;
    let complaints = browser.complaints();
    ensure!(
        complaints.is_empty(),
        "the browser complains: {}",
        complaints.join(" ")
    );
    Ok(())
}

/// Whether a word is part of the name of what style and scripts are called.
fn is_asset(page: &str, word: &str) -> bool {
    page.split(['"', '=', '>'])
        .any(|part| part.starts_with("/assets/") && part.contains(word))
}

/// The token is in no place that outlives the page.
fn remembers_nothing(browser: &mut Browser) -> Result {
    let kept = browser.value("Promise.all([indexedDB.databases(), caches.keys()].map(it => it.catch(() => []))).then(all => all.flat().length + localStorage.length + sessionStorage.length + document.cookie.length + location.search.length + location.hash.length)")?;
    ensure!(kept == 0, "something was stored");
    Ok(())
}

/// A start that ended badly is told at the top, with its record, until that is cleared.
fn bad_end(cx: &Context) -> Result {
    let mut browser = Browser::start(cx)?;
    let append = format!("admin={TOKEN} test=once:abort");
    let mut guest = Machine::new(cx).user()?.append(append.as_str()).boot()?;
    guest.line("crash record: 1 start(s) ago", 60)?;
    guest.healthy(30)?;
    let url = format!("http://{}/", guest.services.http);
    let page = curl(&[&url])?;
    ensure!(
        page.contains("The last start ended badly.") && page.contains("<q>data abort, esr"),
        "{page}"
    );
    browser.open(&url)?;
    browser.wait(20, "document.querySelector('#crash')?.innerText.includes('data abort') && !!document.querySelector('#tools')")?;
    browser.value("document.querySelector('#crash a').click()")?;
    browser.wait(20, "!!document.querySelector('dialog[open]')")?;
    browser.call("Input.insertText", json!({ "text": TOKEN }))?;
    browser.key("Enter")?;
    browser.wait(
        20,
        "document.querySelector('#record')?.innerText.includes('data abort')",
    )?;
    let record = browser.text("document.querySelector('#record').innerText")?;
    for part in [
        "backtrace",
        "code crc32\t0x",
        "far\t0x8",
        "Ristretto ",
        "sealed",
    ] {
        ensure!(record.contains(part), "no {part} in {record}");
    }
    pictures(&mut browser, cx, "", &[360, 1600])?;
    accessible(&mut browser)?;
    let clear = [
        "-X",
        "POST",
        "-H",
        &format!("Authorization: Bearer {TOKEN}"),
    ];
    curl(&[&clear[..], &[&format!("{url}api/v1/crash/clear")]].concat())?;
    browser.wait(20, "!document.querySelector('#crash')")?;
    ensure!(
        !curl(&[&url])?.contains("ended badly"),
        "the page still tells of it"
    );
    Ok(())
}

/// A file of the monitoring directory.
fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/monitoring")
        .join(name)
}

/// Prometheus scrapes without a complaint, and what it is asked for exists.
fn prometheus(cx: &Context) -> Result {
    for program in ["promtool", "prometheus"] {
        attempt(program, &["--version"])?;
    }
    let mut board = Board::new(cx).boot()?;
    board.leases(&[0])?;
    let http = board.services(0)?.http;
    let metrics = curl(&[&format!("http://{http}/metrics")])?;
    let file = cx.out.join(format!("{}.metrics", cx.name));
    fs::write(&file, &metrics)?;
    run(
        "sh",
        &[
            "-c",
            "said=$(promtool check metrics <\"$0\" 2>&1) && test -z \"$said\" || { echo \"$said\" >&2; exit 1; }",
            &file.display().to_string(),
        ],
    )?;
    run(
        "promtool",
        &[
            "check",
            "rules",
            &monitoring("alerts.yml").display().to_string(),
        ],
    )?;

    // Every name in the dashboard and the rules is one that the board has.
    let dashboard = fs::read_to_string(monitoring("grafana.json"))?;
    serde_json::from_str::<Value>(&dashboard)
        .map_err(|error| error.to_string())
        .during("grafana.json")?;
    let alerts = fs::read_to_string(monitoring("alerts.yml"))?;
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    for (file, text) in [("grafana.json", &dashboard), ("alerts.yml", &alerts)] {
        let names = text
            .split(|character| !is_in_name(character))
            .filter(|word| word.starts_with("ristretto_"));
        for name in names {
            let family = ["_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            let known = [name, family]
                .iter()
                .any(|name| metrics.contains(&format!("# TYPE {name} ")));
            ensure!(
                known || name.starts_with("ristretto_latency_seconds"),
                "{file} asks for {name}, which /metrics does not have"
            );
        }
    }

    let (config, data) = (
        cx.out.join(format!("{}.yml", cx.name)),
        cx.out.join(format!("{}-data", cx.name)),
    );
    let _ = fs::remove_dir_all(&data);
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 5s, scrape_timeout: 5s}}\nrule_files: ['{}']\nscrape_configs:\n- job_name: ristretto\n  static_configs:\n  - targets: ['{http}']\n",
            monitoring("alerts.yml").display()
        ),
    )?;
    let log = cx.out.join(format!("{}.log", cx.name));
    let listen: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = Background::start(
        "prometheus",
        &[
            &format!("--config.file={}", config.display()),
            &format!("--storage.tsdb.path={}", data.display()),
            &format!("--web.listen-address={listen}"),
            "--log.level=info",
        ],
    )?;
    let ask = |query: &str| {
        curl(&[
            "-G",
            "--data-urlencode",
            &format!("query={query}"),
            &format!("http://{listen}/api/v1/query"),
        ])
    };
    let scraped = |text: &String| text.contains("\"value\":[");
    wait(60, "two scrapes", || {
        ask("count_over_time(up{job=\"ristretto\"}[1m]) >= 2")
            .ok()
            .filter(scraped)
    })?;
    let up = ask("min_over_time(up{job=\"ristretto\"}[1m])")?;
    ensure!(up.contains(",\"1\"]"), "a scrape failed: {up}");
    let said = fs::read_to_string(&log)?;
    drop(server);
    let _ = fs::remove_dir_all(&data);
    if let Some(line) = said
        .lines()
        .find(|line| line.contains("level=warn") || line.contains("level=error"))
    {
        return Err(format!("Prometheus says: {line}").into());
    }
    board.sound()
}
