//! The page at `/` in a browser, and what programs that watch see: Prometheus, dashboard, alerts.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::check::{During, Failure, Result, ensure, fail, wait};
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
        name: "page-eight",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 240,
        run: eight,
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
        let head = curl(&["-I", "-H", "Accept-Encoding: gzip", &url])?.to_lowercase();
        let (_, body) = with(" gzip")?;
        ensure!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                && head.contains("content-encoding: gzip\r\n"),
            "HEAD {path}: {head}"
        );
        let other = get(http, &path.replace('.', "-"))?;
        ensure!(other.code == 404, "{}: {}", path, other.code);
    }
    let head = curl(&["-I", &format!("http://{http}/")])?;
    ensure!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Security-Policy: "),
        "HEAD /: {head}"
    );
    println!("assets: {packed_bytes} bytes packed");
    ensure!(packed_bytes < 30 << 10, "{packed_bytes} bytes of assets");
    Ok(())
}

/// What a devicetree may say to who shows it unescaped.
const NASTY_MODEL: &str = "\"><script>document.title='owned'</script>&amp;<b>'";
const NASTY_PORT: &str = "/soc/internal-regs/mdio/switch0/ports/port@3";
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
    tree.node(NASTY_PORT)?
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
        motion(&mut browser)?;
        // What the log says of a port has the port's name in it.
        browser.wait(
            20,
            &format!(
                "document.querySelector('#log pre').textContent.includes({})",
                json!(format!("{NASTY_LABEL}: link up"))
            ),
        )?;
        browser.value("document.querySelectorAll('details').forEach(it => { it.open = true; })")?;
        pictures(&mut browser, cx, "-open", &[360, 800])?;
        browser
            .value("document.querySelectorAll('details').forEach(it => { it.open = false; })")?;
        pictures(&mut browser, cx, "", &[360, 800, 1600, 3840])?;
        drop(traffic);
        Ok(())
    })?;

    tools(&mut browser, cx)?;
    offline(&mut browser, &mut board, cx)?;
    accessible(&mut browser)?;
    content(&mut browser)?;
    without_script(&mut browser, &url)?;
    board.sound()
}

/// Nothing broke, and nothing was kept from anything.
fn content(browser: &mut Browser) -> Result {
    let complaints = browser.complaints();
    ensure!(
        complaints.is_empty(),
        "the browser complains: {}",
        complaints.join(" ")
    );
    Ok(())
}

/// Tables with everything in them: in a browser that runs no scripts, and in the text that curl gets.
fn without_script(browser: &mut Browser, url: &str) -> Result {
    let text = curl(&[url])?;
    ensure!(
        !text.contains(NASTY_LABEL) && text.contains("&lt;b&gt;&quot;&amp;&#39;&lt;/b&gt;"),
        "foreign text as it came: {text}"
    );
    let params = json!({ "value": true });
    browser.call("Emulation.setScriptExecutionDisabled", params)?;
    browser.open(url)?;
    let shown = browser.text("document.body.innerText")?;
    for part in [
        "up, 1000 Mb/s full duplex",
        "10.0.2.15/24 dhcp",
        "half within ",
        " connection",
        "Uptime",
        "link up",
        NASTY_LABEL,
        NASTY_MODEL,
    ] {
        ensure!(shown.contains(part), "no {part} in {shown}");
    }
    ensure!(
        browser.value("!document.querySelector('.board, #banner, #tools')")? == true,
        "a script ran"
    );
    let params = json!({ "value": false });
    browser.call("Emulation.setScriptExecutionDisabled", params)?;
    Ok(())
}

/// Lights blink for who did not ask for rest.
fn motion(browser: &mut Browser) -> Result {
    let moving = "document.getAnimations().length > 0";
    browser.motion(true)?;
    browser.wait(20, moving)?;
    browser.motion(false)?;
    browser.wait(20, &format!("!({moving})"))
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

/// What a cable does is seen within two seconds.
///
/// Measured on the board's clock, from the line in its log to the status with which the page changed, so that neither
/// the way there nor the looking counts. That this status is the first after the event is so on any host; that the next
/// one comes soon enough takes a host that has the time, which one of three tries has to find.
fn flap(browser: &mut Browser, board: &mut Running) -> Result {
    browser.value(
        "(() => {
            const article = document.querySelectorAll('.port')[1];
            let last = before.uptime_seconds;
            window.seen = [];
            new MutationObserver(() => {
                const isDown = article.classList.contains('down'), now = before.uptime_seconds;
                if (isDown !== (window.seen.at(-1)?.isDown ?? false)) window.seen.push({ isDown, last, now });
                last = now;
            }).observe(document.querySelector('main'), { subtree: true, childList: true, attributes: true, characterData: true });
            return true;
        })()",
    )?;
    let mut slowest = [f64::MAX; 2];
    for round in 0..3 {
        for (index, plugged, line) in [(0, false, "lan0: link down"), (1, true, "lan0: link up")] {
            let mark = board.mark();
            board.cable(1, plugged)?;
            let line = board.line_from(mark, line)?;
            let noticed: Option<f64> = line
                .strip_prefix('[')
                .and_then(|rest| rest.split(']').next()?.trim().parse().ok());
            let Some(noticed) = noticed else {
                fail!("no time in {line}")
            };
            let number = 2 * round + index;
            browser.wait(30, &format!("window.seen.length > {number}"))?;
            let seen = browser.value(&format!("window.seen[{number}]"))?;
            let at = |key: &str| seen[key].as_f64().unwrap_or_default();
            ensure!(
                seen["isDown"] == !plugged && at("last") <= noticed && noticed <= at("now"),
                "{line}: seen {seen}"
            );
            slowest[index] = slowest[index].min(at("now") - noticed);
            let word = if plugged { "up" } else { "down" };
            browser.wait(
                20,
                &format!("document.querySelectorAll('.port h3 b')[1].textContent === '{word}' && document.querySelectorAll('.socket')[1].classList.contains('down') === {}", !plugged),
            )?;
        }
        if slowest.iter().all(|&took| took < 2.0) {
            println!("a flap was seen after {slowest:?} s");
            return Ok(());
        }
    }
    Err(format!("a flap was seen after {slowest:?} s only").into())
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

/// The buttons, by keyboard alone: the token asked for once, a self-test and what came of it, a capture that other
/// programs read.
fn tools(browser: &mut Browser, cx: &Context) -> Result {
    let focus = |title: &str| {
        format!(
            "[...document.querySelectorAll('button')].find(it => it.textContent === '{title}').focus()"
        )
    };
    let asked = "!!document.querySelector('dialog[open]')";
    let in_field = "document.activeElement === document.querySelector('dialog input')";
    let said = "document.querySelector('#tools [role=status]').textContent";
    browser.wait(20, "!!document.querySelector('#tools button')")?;
    tab_through(browser)?;

    // Changed one's mind: nothing happens, and the focus is where it was.
    browser.value(&focus("Run the self-test"))?;
    browser.key("Enter")?;
    browser.wait(20, in_field)?;
    pictures(browser, cx, "-token", &[360, 800])?;
    browser.key("Escape")?;
    browser.wait(20, &format!("!({asked}) && document.activeElement.textContent === 'Run the self-test' && !document.activeElement.ariaDisabled"))?;

    browser.key(" ")?;
    browser.wait(20, in_field)?;
    browser.call("Input.insertText", json!({ "text": "open" }))?;
    browser.key("Enter")?;
    browser.wait(
        20,
        "document.querySelector('dialog')?.textContent.includes('That was not the token')",
    )?;
    browser.call("Input.insertText", json!({ "text": TOKEN }))?;
    browser.key("Enter")?;
    browser
        .wait(60, &format!("{said}.startsWith('Testing')"))
        .during("the begin of the self-test")?;
    pictures(browser, cx, "-testing", &[360])?;
    browser
        .wait(120, &format!("{said}.startsWith('Done: ')"))
        .during("self-test")?;
    let sum = browser.text(said)?;
    ensure!(
        sum.contains(" 0 failed") && !sum.contains(" 0 passed"),
        "self-test: {sum}"
    );
    let rows = browser.value("document.querySelectorAll('#tools tr.ok').length")?;
    ensure!(rows.as_u64() > Some(3), "{rows} rows of results");
    pictures(browser, cx, "-tested", &[360, 800])?;
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
    browser.value(&focus("Capture packets"))?;
    browser.key("Enter")?;
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
    // The address was good once.
    let links = browser.downloads();
    let [link] = &links[..] else {
        fail!("captures: {links:?}")
    };
    let fixed = [
        "-sS",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    ];
    let again = run("curl", &[&fixed[..], &[link]].concat())?;
    ensure!(again == "401", "the same link again: {again}");
    let _ = fs::remove_dir_all(&downloads);
    Ok(())
}

/// The tabulator goes to everything that can be used, in the order in which it stands on the page.
fn tab_through(browser: &mut Browser) -> Result {
    browser.value("document.activeElement.blur(), window.getSelection().removeAllRanges(), scrollTo(0, 0), true")?;
    let mut been: Vec<String> = Vec::new();
    for _ in 0..60 {
        browser.key("Tab")?;
        let at = browser.text("(it => it === document.body ? '' : `${it.tagName} ${it.getAttribute('aria-label') || it.textContent.slice(0, 20)} ${it.matches(':focus-visible')}`)(document.activeElement)")?;
        if at.is_empty() || been.first() == Some(&at) {
            break;
        }
        ensure!(at.ends_with(" true"), "the focus on {at} is not to be seen");
        been.push(at);
    }
    let mut all = been.iter();
    for place in [
        "a wan: ",
        "SUMMARY Dropped",
        "SUMMARY neta0",
        "BUTTON Run the",
        "SELECT ",
        "INPUT ",
        "BUTTON Capture",
        "PRE ",
        "A Metrics",
    ] {
        ensure!(
            all.any(|at| at.starts_with(place)),
            "the keyboard does not reach {place} in order: {been:?}"
        );
    }
    Ok(())
}

/// A board that does not answer: what is shown is old, and says so.
fn offline(browser: &mut Browser, board: &mut Running, cx: &Context) -> Result {
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
    pictures(browser, cx, "-offline", &[360, 800])?;
    accessible(browser)?;
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
    content(&mut browser)
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

/// What a core of 1 GHz does in a second, at 0.8 instructions per cycle.
const CORE: f64 = 0.8e9;
const PAGES: usize = 8;

/// Eight open pages change nothing for the echo, and each takes less than 1 % of a core. Time is instructions here, and
/// the emulator counts them: a slow host changes nothing.
fn eight(cx: &Context) -> Result {
    let mut browser = Browser::start(cx)?;
    let append = format!("admin={TOKEN}");
    let mut board = Board::new(cx)
        .instructions_take_ns(0)
        .append(&append)
        .boot()?;
    board.leases(&[0, 1, 2])?;
    let services = board.services(0)?;
    let (http, echo) = (services.http, services.echo_udp);
    let before = load_of(&mut board, http, echo).during("without a page")?;
    let url = format!("http://{http}/");
    for page in 0..PAGES {
        match page {
            0 => browser.open(&url)?,
            _ => browser.another(&url)?,
        }
        browser.wait(
            60,
            "!!document.querySelector('#tools') && !document.querySelector('#live').hidden",
        )?;
    }
    let after = load_of(&mut board, http, echo).during("eight pages")?;
    // All of them ask, each a second, if the host lets them.
    let polls = (after.polls - before.polls) / PAGES as f64;
    let share = (after.idle - before.idle) / PAGES as f64 / CORE;
    println!(
        "echo: {} instructions without a page, {} beside {PAGES}, ratio {:.3}; 99 % within {} and {}, all within {} and {}",
        before.half,
        after.half,
        after.half as f64 / before.half as f64,
        before.most,
        after.most,
        before.all,
        after.all
    );
    println!(
        "a page: {:.0} instructions and {polls:.2} requests a second, {:.3} % of a core",
        share * CORE,
        share * 100.0
    );
    ensure!(
        (0.2..).contains(&polls),
        "{polls} requests a second of each page"
    );
    ensure!(
        share > 0.0 && share < 0.01,
        "a page takes {share} of a core"
    );
    ensure!(
        after.half * 10 <= before.half * 11,
        "an echo took {} instructions, now {}",
        before.half,
        after.half
    );
    board.sound()
}

/// What a board does, in instructions, and for whom.
struct Load {
    /// Instructions a second with no echo.
    idle: f64,
    /// Requests a second.
    polls: f64,
    /// Half of the echoes took so many, or fewer.
    half: u64,
    /// The same of 99 %, and of all.
    most: u64,
    all: u64,
}

fn load_of(board: &mut Running, http: SocketAddr, echo: SocketAddr) -> Result<Load> {
    let mut sample = || -> Result<(f64, f64, f64)> {
        let counted = board.qmp()?.execute("query-replay", "{}")?;
        let count: Value = serde_json::from_str(&counted).map_err(|error| error.to_string())?;
        let status: Value =
            serde_json::from_str(&curl(&[&format!("http://{http}/api/v1/status")])?)
                .map_err(|error| error.to_string())?;
        let Some(count) = count["return"]["icount"].as_f64() else {
            fail!("no count in {counted}")
        };
        let (uptime, answers) = (&status["uptime_seconds"], &status["http_responses"]["200"]);
        Ok((
            count,
            uptime.as_f64().unwrap_or_default(),
            answers.as_f64().unwrap_or_default(),
        ))
    };
    let from = sample()?;
    thread::sleep(Duration::from_secs(10));
    let to = sample()?;
    let seconds = to.1 - from.1;
    ensure!(
        (1.0..).contains(&seconds),
        "{seconds} s of the board's time in ten"
    );

    let bearer = format!("Authorization: Bearer {TOKEN}");
    curl(&[
        "-X",
        "POST",
        "-H",
        &bearer,
        &format!("http://{http}/api/v1/latency/reset"),
    ])?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut answered = 0;
    for _ in 0..600 {
        socket.send_to(&[7; 18], echo)?;
        answered += usize::from(socket.recv(&mut [0; 64]).is_ok());
        thread::sleep(Duration::from_millis(5));
    }
    ensure!(answered > 550, "{answered} of 600 echoes");
    let report: Value = serde_json::from_str(&curl(&[&format!("http://{http}/api/v1/latency")])?)
        .map_err(|error| error.to_string())?;
    let figure = |name: &str| report["kinds"]["udp"]["total"][name].as_u64();
    let (Some(half), Some(most), Some(all)) = (figure("p50"), figure("p99"), figure("max")) else {
        fail!("no echo in {report}")
    };
    Ok(Load {
        idle: (to.0 - from.0) / seconds,
        polls: (to.2 - from.2) / seconds,
        half,
        most,
        all,
    })
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
    // A label that has to be escaped in the text format as well.
    let mut tree = tree()?;
    tree.node(NASTY_PORT)?.set("label", b"lan\"\\1{}\0");
    let mut board = Board::new(cx).tree(tree).boot()?;
    board.leases(&[0])?;
    let services = board.services(0)?;
    let http = services.http;
    // What nothing was measured of has no family.
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let metrics = wait(60, "a latency among the metrics", || {
        for _ in 0..50 {
            socket.send_to(&[7; 18], services.echo_udp).ok()?;
            let _ = socket.recv(&mut [0; 64]);
        }
        let metrics = curl(&[&format!("http://{http}/metrics")]).ok()?;
        metrics
            .contains("ristretto_latency_seconds{kind=\"udp\"")
            .then_some(metrics)
    })?;
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
    ensure!(
        metrics.contains("interface=\"lan\\\"\\\\1{}\""),
        "the label is not escaped in {metrics}"
    );
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts.test.yml")] {
        let file = monitoring(file).display().to_string();
        run("promtool", &[what, "rules", &file])?;
    }

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
                known,
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
