'use strict';
// Keeps the page alive: asks the board for its status every second and puts what changed where it stands.

const PERIOD = 1000, STALE = 3500, WINDOW = 120;

// Makes a table's rows these: the first cell of each is a heading.
function rows(table, list) {
  const body = table.tBodies[0] || table.createTBody();
  while (body.rows.length > list.length) body.deleteRow(-1);
  list.forEach((cells, index) => {
    const row = body.rows[index] || body.insertRow();
    cells.forEach((cell, at) => {
      const place = row.cells[at] || row.appendChild(make(at ? 'td' : 'th', at ? {} : { scope: 'row' }));
      say(place, typeof cell === 'bigint' ? `0x${cell.toString(16)}` : String(cell ?? '\u2013'));
    });
  });
}

// A section that came with the page, or is made for it where it belongs.
function section(id, title, ...content) {
  let found = document.getElementById(id);
  if (!found) {
    found = make('section', { id, 'aria-labelledby': `${id}-title` }, make('h2', { id: `${id}-title` }, title), ...content);
    $('#more').insertBefore(found, $('#log'));
  }
  return found;
}

const counted = counters => Object.entries(counters || {})
  .filter(([, value]) => value).map(([name, value]) => [words(name), whole(value)]);

// Ports.

let board, ports = [], before;

function portOf(article) {
  const big = (kind, title) => {
    const [rate, frames] = [make('b'), make('small')];
    article.querySelector('.rates').append(make('p', { class: kind }, make('span', {}, title), rate, frames));
    return { rate, frames };
  };
  const line = drawTimeline(WINDOW);
  const scale = make('figcaption');
  const rates = make('div', { class: 'rates' });
  article.querySelector('table').before(rates, make('figure', {}, line.svg, scale));
  return {
    article, line, scale, samples: [],
    rx: big('rx', 'in'), tx: big('tx', 'out'),
    facts: article.querySelector('table'), tables: article.querySelectorAll('details table'),
  };
}

function linkWords({ up, speed_mbps: speed, duplex, pause }) {
  if (!up) return 'down';
  return ['up', speed && `${speed} Mb/s${duplex ? ` ${duplex} duplex` : ''}`, pause && `pause ${pause}`]
    .filter(Boolean).join(', ');
}

function showPorts(status) {
  const names = status.interfaces.map(port => port.name);
  const articles = [...document.querySelectorAll('.port')];
  // Other ports than those that the page came with: it has to come anew.
  if (names.join() !== articles.map(article => article.dataset.name).join()) return location.reload();
  if (!board) {
    board = drawBoard(names);
    $('#ports h2').after(board.svg);
    ports = articles.map(portOf);
  }
  const now = status.uptime_seconds;
  // A board that started anew counts from 0.
  if (before && before.uptime_seconds > now) before = undefined;
  status.interfaces.forEach((port, index) => {
    const { article, line, scale, samples, rx, tx, facts, tables: [drops, counters] } = ports[index];
    const up = port.link.up;
    article.classList.toggle('down', !up);
    say(article.querySelector('h3 b'), up ? 'up' : 'down');
    rows(facts, [
      ['Link', linkWords(port.link)],
      ['Addresses', port.addresses.map(({ cidr, origin }) => `${cidr} ${origin}`).join('\n') || 'none yet'],
      ['Hardware', port.mac],
    ]);
    rows(counters, [...counted(port.counters), ...counted(port.port_counters)]);
    rows(drops, counted(port.drops));
    const lost = Object.values(port.drops || {}).reduce((sum, count) => sum + count, 0);
    say(drops.previousSibling, `Dropped frames: ${whole(lost)}`);
    if (!before) return samples.splice(0);
    const old = before.interfaces[index].counters;
    const span = now - before.uptime_seconds;
    const grown = name => Math.max(0, (port.counters[name] || 0) - (old[name] || 0)) / span;
    const sample = { from: before.uptime_seconds, at: now, up, rx: 8 * grown('rx_bytes'), tx: 8 * grown('tx_bytes') };
    samples.push(sample);
    while (samples[0].from < now - WINDOW) samples.shift();
    port.busy = grown('rx_frames') + grown('tx_frames') > 0;
    for (const [kind, place] of [['rx', rx], ['tx', tx]]) {
      say(place.rate, bits(sample[kind]));
      say(place.frames, `${whole(grown(`${kind}_frames`))} frames/s`);
    }
    const peak = line.update(samples, now);
    say(scale, `last ${WINDOW / 60} min, full height ${bits(peak)}`);
    line.svg.setAttribute('aria-label', `${port.name}: in ${bits(sample.rx)}, out ${bits(sample.tx)}; at most ${bits(peak)} in the last ${WINDOW / 60} minutes`);
  });
  board.update(status.interfaces);
  before = status;
}

function showStatus(status) {
  showBadEnd(status.bad_end);
  showPorts(status);
  rows($('#machine table'), [
    ['Uptime', duration(status.uptime_seconds)],
    ['Version', `Ristretto ${status.version}`],
    ['Processor', status.cpu],
    ['Memory', bytes(status.memory_bytes)],
    ['Heap', `${bytes(status.heap_used_bytes)} of ${bytes(status.heap_size_bytes)}`],
  ]);
  document.querySelectorAll('#hardware details').forEach(details =>
    rows(details.querySelector('table'), counted(status.devices[details.firstChild.textContent])));
  rows($('#services table'), status.services.map(({ name, connections }) => [name,
    connections === undefined ? 'ready' : connections === 1 ? '1 connection' : `${connections} connections`]));
}

// The rest, a request at a time.

function showLatency(latency) {
  const time = ns => ns / 1e3;
  const kinds = Object.entries(latency.kinds).filter(([, kind]) => kind.total?.bins?.length);
  const place = $('#latency') || section('latency', 'Latency', make('p'), make('div'));
  say(place.querySelector('p'), `From the interrupt to the doorbell of the answer, ${latency.time} time.`);
  if (!kinds.length) return say(place.querySelector('div'), 'Nothing was answered yet.');
  const all = kinds.flatMap(([, kind]) => kind.total.bins);
  const low = time(Math.min(...all.map(([from]) => from))), high = time(Math.max(...all.map(([, to]) => to)));
  place.querySelector('div').replaceChildren(...kinds.map(([name, { total }]) => {
    const bins = total.bins.map(([from, to, count]) => [time(from), time(to), count]);
    const [half, most] = [time(total.p50), time(total.p99)];
    const svg = drawHistogram(bins, low, high, [half, most]);
    const text = `${whole(total.count)} ${total.count === 1 ? 'answer' : 'answers'}, half within ${micros(half)}, 99 % within ${micros(most)}, all within ${micros(time(total.max))}`;
    svg.setAttribute('aria-label', `${words(name)}: ${text}`);
    return make('figure', {}, make('h3', {}, words(name)), svg,
      make('p', { class: 'axis' }, make('span', {}, micros(low)), make('span', {}, micros(high))), make('figcaption', {}, text));
  }));
}

// What a command reports in tables and lines.
function showReport(id, title) {
  return report => {
    const place = section(id, title, make('div'));
    const parts = Object.entries(report).filter(([, value]) => Array.isArray(value)).map(([name, list]) => {
      if (typeof list[0] === 'string') return make('pre', { tabindex: 0, 'aria-label': words(name) }, list.join('\n'));
      if (!list.length) return make('p', { class: 'none' }, `no ${words(name)}`);
      const columns = Object.keys(list[0]);
      const table = make('table', {}, make('thead', {}, make('tr', {},
        ...columns.map(column => make('th', { scope: 'col' }, words(column))))));
      rows(table, list.map(row => columns.map(column => row[column])));
      return make('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': words(name) }, table);
    });
    const old = place.lastElementChild;
    if (old.textContent !== parts.map(part => part.textContent).join('')) old.replaceChildren(...parts);
  };
}

// How full the rings are, as far as the hardware owns them.
function showRings({ rings }) {
  const place = section('rings', 'Rings', make('table'));
  const table = place.querySelector('table');
  rows(table, rings.map(({ ring, size, owned_by_mac: owned }) => [ring, `${owned} of ${size} with the MAC`, '']));
  rings.forEach(({ size, owned_by_mac: owned }, index) => {
    const cell = table.rows[index].cells[2];
    const bar = cell.firstElementChild || cell.appendChild(make('progress', { 'aria-hidden': 'true' }));
    bar.max = size;
    bar.value = owned;
  });
}

// Each is asked for if the board has the command that its path begins with.
const others = [
  { path: 'latency', every: 10, show: showLatency },
  { path: 'neta/ring', every: 5, show: showRings },
  { path: 'switch/atu', every: 15, show: showReport('atu', 'Switch table') },
  { path: 'log', every: 5, show: showReport('log', 'Log') },
];
let wanted;

// One at a time, beside the status: commands wait for each other on the board.
async function showOne(now) {
  if (!wanted) {
    const has = new Set((await ask('help')).commands.map(({ command }) => command));
    wanted = others.filter(({ path }) => has.has(path.split('/')[0]));
    return showTools(has);
  }
  const due = wanted.filter(({ at = 0 }) => now >= at).sort((a, b) => (a.at || 0) - (b.at || 0))[0];
  if (!due) return;
  due.at = now + due.every * 1000;
  try {
    due.show(await ask(due.path));
  } catch (error) {
    // A machine without a switch has the command all the same.
    if (error.code === 404) due.at = Infinity;
    else throw error;
  }
}

// Alive or not.

let seen = Date.now(), woke = 0, asking, trouble = {};

function showAge() {
  const age = Date.now() - seen;
  const isStale = Date.now() - Math.max(seen, woke) > STALE;
  document.body.classList.toggle('stale', isStale);
  $('#live').hidden = isStale;
  const banner = $('#banner');
  banner.hidden = !isStale;
  say(banner.firstChild, !isStale ? '' : trouble.code ? `The board refuses: ${trouble.message}.` : 'The board does not answer.');
  say(banner.lastChild, `Last answer ${duration(age / 1000)} ago. What is shown is from then.`);
}

async function run() {
  if (isPrivate) await passGate();
  seen = Date.now();
  $('header').append(make('p', { id: 'live', role: 'status' }, 'live'));
  $('main').before(make('aside', { id: 'banner', hidden: '', 'aria-label': 'Connection' },
    make('b', { role: 'alert' }), make('span')));
  setInterval(showAge, 500);
  for (;;) {
    const begin = Date.now();
    if (!document.hidden) {
      try {
        showStatus(await ask('status'));
        seen = Date.now();
        asking ||= showOne(begin).catch(error => console.warn(error.message)).finally(() => { asking = undefined; });
      } catch (error) {
        // Another token than before, or one at all.
        if (error.code === 401) return location.reload();
        trouble = error;
      }
      showAge();
    }
    await sleep(Math.max(100, PERIOD - (Date.now() - begin)));
  }
}

// Who was in the background did not ask.
document.addEventListener('visibilitychange', () => { before = undefined; woke = Date.now(); });
run();
