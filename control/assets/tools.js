'use strict';
// Asking the board, and what takes the token: reading if it is not for everybody, self-test, capture, crash record.

const LIMIT = 4000;
const $ = selector => document.querySelector(selector);
const sleep = time => new Promise(done => setTimeout(done, time));

// The token, once somebody gave it; it is kept nowhere but here. Where reading takes it, too, it comes with everything.
const isPrivate = !!$('#gate');
let token;

async function load(path, method = 'GET', bears = isPrivate) {
  const headers = bears ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { method, headers, cache: 'no-store', signal: AbortSignal.timeout(LIMIT) });
  const text = await answer.text();
  if (answer.ok) return text;
  let said = answer.statusText;
  try { said = JSON.parse(text).error; } catch { /* an error of another kind than ours */ }
  throw Object.assign(new Error(said), { code: answer.status });
}
// What a crash left has 64 bits, more than a number here is exact in.
const exact = (name, value, { source } = {}) =>
  source && /^(value|backtrace|image_start|code_crc32)$/.test(name) ? BigInt(source) : value;
const ask = async (path, ...how) => JSON.parse(await load(`/api/v1/${path}`, ...how), exact);

// The token is asked for once, when something takes it.

function tokenForm(why, ...more) {
  const input = make('input', {
    type: 'password', autocomplete: 'off', required: '', maxlength: 64, pattern: '[!-~]+', title: 'letters, digits and signs',
  });
  const said = make('p', { role: 'alert' }, why);
  const form = make('form', { method: 'dialog' }, make('h2', { id: 'token-title' }, 'Token'), said,
    make('label', {}, 'What admin= says in the bootargs. It travels in clear and is forgotten with this page. ', input),
    make('p', { class: 'row' }, make('button', { value: 'go' }, 'Go on'), ...more));
  return { form, input, said };
}

// Where even reading takes it, the form is all there is; with the token the page comes.
function passGate() {
  const { form, input, said } = tokenForm('This board shows nothing without the token.');
  $('#gate').append(form);
  input.focus();
  return new Promise(done => form.addEventListener('submit', async event => {
    event.preventDefault();
    token = input.value;
    try {
      const page = new DOMParser().parseFromString(await load('/'), 'text/html');
      document.title = page.title;
      document.body.replaceChildren(...page.body.children);
      // Links bear no token.
      $('footer').remove();
      done();
    } catch (error) {
      said.textContent = error.code === 401 ? 'That was not the token.' : `It did not work: ${error.message}`;
      input.select();
    }
  }));
}

function askToken(why) {
  const { form, input } = tokenForm(why, make('button', { value: '', formnovalidate: '' }, 'Leave it'));
  const dialog = make('dialog', { 'aria-labelledby': 'token-title' }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise(done => dialog.addEventListener('close', () => {
    dialog.remove();
    done(dialog.returnValue && input.value);
  }));
}

async function change(path, method = 'POST') {
  for (let why = 'This takes the token.'; ;) {
    token ||= await askToken(why);
    if (!token) return undefined;
    try {
      return await ask(path, method, true);
    } catch (error) {
      if (error.code !== 401) throw error;
      token = undefined;
      why = 'That was not the token.';
    }
  }
}

// With `all`, also what cuts ports for a while: this page may be behind one of them.
async function selftest(show, all) {
  const { tests } = await ask('selftest?list');
  const chosen = tests.filter(({ cuts_ports: cuts }) => all || !cuts).map(({ test }) => test);
  const begun = await change(`selftest/${chosen.join('/')}${all ? '?force=1' : ''}`);
  if (!begun) return show('');
  show('Testing.');
  for (let patience = 60; patience > 0;) {
    await sleep(700);
    let run;
    try {
      run = await ask(`selftest/${begun.job}`);
      patience = 60;
    } catch (error) {
      patience--;
      continue;
    }
    const table = make('table');
    rows(table, run.results.map(({ name, result, detail }) => [name, `${result}${detail ? `: ${detail}` : ''}`]));
    run.results.forEach(({ result }, index) => { table.rows[index].className = result; });
    const sum = `${run.passed} passed, ${run.failed} failed, ${run.skipped} skipped`;
    show(run.running ? `Testing ${words(run.test || '')}: ${sum} so far.` : `Done: ${sum}.`, table);
    if (!run.running) return;
  }
  show('The board did not come back to say what came of it.');
}

async function capture(show) {
  const begun = await change('capture/ticket');
  if (!begun) return show('');
  const [port, count] = ['select', 'input'].map(kind => encodeURIComponent($(`#tools ${kind}`).value));
  const link = make('a', { href: `${begun.url}${port && `&if=${port}`}&count=${count}`, download: 'capture.pcapng' }, 'Capture');
  show(`The capture has begun; it ends after ${count} frames. Wireshark and tshark open it.`);
  link.click();
}

function showTools(has) {
  if (!has.has('selftest') && !has.has('capture')) return;
  const said = make('p', { role: 'status' }), more = make('div');
  const show = (text, ...content) => {
    say(said, text);
    more.replaceChildren(...content);
  };
  const button = (title, act) => {
    const made = make('button', { type: 'button' }, title);
    made.addEventListener('click', async () => {
      // Not `disabled`: that would take the focus away.
      if (made.ariaDisabled) return;
      made.ariaDisabled = 'true';
      try { await act(show); } catch (error) { show(`It did not work: ${error.message}`); }
      made.ariaDisabled = null;
    });
    return made;
  };
  const place = section('tools', 'Tools');
  if (has.has('selftest')) {
    place.append(make('p', { class: 'row' }, button('Run the self-test', selftest),
      button('All of it: ports go down meanwhile', show => selftest(show, true))));
  }
  if (has.has('capture')) {
    const names = ports.map(({ article }) => article.dataset.name);
    const choice = make('select', {}, make('option', { value: '' }, 'all ports'), ...names.map(name => make('option', {}, name)));
    const count = make('input', { type: 'number', min: 1, max: 1000000, value: 1000 });
    place.append(make('p', { class: 'row' }, make('label', {}, 'From ', choice), make('label', {}, count, ' frames'),
      button('Capture packets', capture)));
  }
  place.append(said, more);
}

// The record of a start that ended badly.

// At the top, as long as the board has a record of it.
function showBadEnd(end) {
  let place = $('#crash');
  if (!end) return place?.remove();
  if (!place) {
    place = make('p', { id: 'crash' }, make('b'), ' ', make('q'), ' ', make('a', { href: '/api/v1/crash' }, 'Show the record'));
    $('main').prepend(place);
  }
  say(place.querySelector('b'), end.starts_ago === 1 ? 'The last start ended badly.' : `A start ended badly, ${end.starts_ago} starts ago.`);
  say(place.querySelector('q'), end.message);
  place.querySelector('a').onclick = event => {
    // The link alone bears no token.
    event.preventDefault();
    showRecord().catch(error => say(place.querySelector('q'), `The record did not come: ${error.message}`));
  };
}

async function showRecord() {
  // Without the token, what everybody may know of it.
  const record = await change('crash', 'GET').catch(() => undefined) || await ask('crash');
  const place = section('record', 'Crash record', make('table'), make('div'));
  rows(place.querySelector('table'), Object.entries(record)
    .filter(([, value]) => !Array.isArray(value)).map(([name, value]) => [words(name), value]));
  showReport('record', 'Crash record')(record);
  place.tabIndex = -1;
  place.focus();
}
