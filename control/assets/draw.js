'use strict';
// Drawing, and saying numbers as people do. Nothing here asks the board, and text is always text, whatever is in it.

function build(element, attributes, children) {
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.append(...children);
  return element;
}
const make = (tag, attributes, ...children) =>
  build(document.createElement(tag), attributes, children);
const shape = (tag, attributes, ...children) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// A picture that stretches with its place; `label` is what a screen reader says of it.
const picture = (width, height, kind) => shape('svg', {
  viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', class: kind, role: 'img',
});

const whole = number => Math.round(number).toLocaleString('en');

// Three digits and a unit, each unit `step` times the one before.
function scaled(value, units, step = 1000) {
  let at = 0;
  while (value >= step && at < units.length - 1) { value /= step; at++; }
  const digits = value >= 100 || at === 0 && Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[at]}`;
}
const bits = rate => scaled(rate, ['b/s', 'kb/s', 'Mb/s', 'Gb/s']);
const bytes = size => scaled(size, ['bytes', 'KiB', 'MiB', 'GiB'], 1024);
const micros = time => scaled(time, ['\u00b5s', 'ms', 's']);

// The two largest units.
function duration(seconds) {
  const units = [['d', 86400, 1e9], ['h', 3600, 24], ['min', 60, 60], ['s', 1, 60]];
  const parts = units.map(([unit, size, of]) => [Math.floor(seconds / size) % of, unit]);
  const first = Math.max(0, parts.findIndex(([count]) => count > 0));
  const from = parts.some(([count]) => count > 0) ? first : 3;
  return parts.slice(from, from + 2).map(part => part.join(' ')).join(' ');
}

const words = name => name.replaceAll('_', ' ');

// The edge of the board with its sockets: a switch, a trace to each socket, and what its link is.
function drawBoard(names) {
  const [size, high] = [78, 60];
  let x = 14;
  const svg = shape('svg', { class: 'board', role: 'group' });
  const sockets = names.map((name, index) => {
    const left = x;
    // What is called wan stands apart from the others.
    x += size + (name === 'wan' ? 46 : 10);
    const line = (y, kind) => shape('text', { x: size / 2, y, class: kind });
    const texts = [line(high + 17, 'name'), line(high + 32, ''), line(high + 45, ''), line(high + 57, '')];
    texts[0].textContent = name.length > 9 ? name.slice(0, 8) + '\u2026' : name;
    const pins = Array.from({ length: 8 }, (_, pin) => `M${21 + pin * 5.2} 15v7`).join('');
    const socket = shape('g', { transform: `translate(${left} 74)` },
      shape('rect', { width: size, height: high, rx: 4, class: 'shell' }),
      shape('path', { d: `M13 14h52v25h-11v9h-30v-9h-11z`, class: 'hole' }),
      shape('path', { d: pins, class: 'pins' }),
      shape('rect', { x: 5, y: 5, width: 10, height: 5, rx: 1.5, class: 'led link' }),
      shape('rect', { x: size - 15, y: 5, width: 10, height: 5, rx: 1.5, class: 'led busy' }),
      ...texts);
    const link = shape('a', { href: `#port${index}`, class: 'socket' }, socket);
    return { link, texts, middle: left + size / 2 };
  });
  const width = x - (names.at(-1) === 'wan' ? 46 : 10) + 14;
  svg.setAttribute('viewBox', `0 0 ${width} 196`);
  svg.style.maxWidth = `${width / 12}rem`;
  const chip = width / 2;
  const traces = sockets.map(({ middle }, index) => {
    const start = chip + (index - (sockets.length - 1) / 2) * 10;
    // No trace crosses another: those that go further turn later, or earlier to the right.
    const bend = 48 + 5 * (middle < chip ? index : sockets.length - 1 - index);
    return shape('path', { d: `M${start} 40V${bend}H${middle}V74`, class: 'trace' });
  });
  svg.append(
    shape('path', { d: `M1 92V10a8 8 0 0 1 8-8H${width - 9}a8 8 0 0 1 8 8V92`, class: 'edge' }),
    shape('path', { d: `M1 92H${width - 1}`, class: 'edge cut' }),
    ...traces,
    shape('rect', { x: chip - 34, y: 12, width: 68, height: 28, rx: 3, class: 'chip' }),
    ...sockets.map(socket => socket.link));
  const label = shape('text', { x: chip, y: 30, class: 'mark' });
  label.textContent = 'ristretto';
  svg.append(label);
  const update = ports => {
    const said = ports.map((port, index) => {
      const { link, texts } = sockets[index];
      const { up, speed_mbps: speed, duplex, pause } = port.link;
      const state = !up ? 'down' : !speed || speed >= 1000 ? 'up fast' : 'up slow';
      link.setAttribute('class', `socket ${state}${port.busy ? ' busy' : ''}`);
      traces[index].setAttribute('class', `trace ${state}`);
      const lines = !up ? ['no link', '', ''] : [
        speed ? (speed >= 1000 ? `${speed / 1000} Gb/s` : `${speed} Mb/s`) : 'up',
        duplex ? `${duplex} duplex` : '', pause && pause !== 'none' ? `pause ${pause}` : ''];
      lines.forEach((line, at) => say(texts[at + 1], line));
      const words = `${port.name}: ${lines.filter(Boolean).join(', ')}`;
      link.setAttribute('aria-label', words);
      return words;
    });
    svg.setAttribute('aria-label', said.join('; '));
  };
  return { svg, update };
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The last minutes of a port: received above the middle, sent below, shaded where there was no link.
function drawTimeline(seconds) {
  const [width, high] = [240, 72];
  const svg = picture(width, high, 'timeline');
  const gone = shape('path', { class: 'gone' });
  const rx = shape('path', { class: 'rx' });
  const tx = shape('path', { class: 'tx' });
  svg.append(gone, rx, tx, shape('path', { d: `M0 ${high / 2}H${width}`, class: 'zero' }));
  const update = (samples, now) => {
    const peak = Math.max(1000, ...samples.map(sample => Math.max(sample.rx, sample.tx)));
    const place = at => (width * (1 - (now - at) / seconds)).toFixed(1);
    const area = (key, direction) => {
      let path = '';
      for (const sample of samples) {
        const y = high / 2 - direction * (high / 2 - 2) * sample[key] / peak;
        path += `V${y.toFixed(1)}H${place(sample.at)}`;
      }
      return path && `M${place(samples[0].from)} ${high / 2}${path}V${high / 2}z`;
    };
    rx.setAttribute('d', area('rx', 1));
    tx.setAttribute('d', area('tx', -1));
    gone.setAttribute('d', samples.filter(sample => !sample.up)
      .map(sample => `M${place(sample.from)} 0V${high}H${place(sample.at)}V0z`).join(''));
    return peak;
  };
  return { svg, update };
}

// How often which time was met; `low` and `high` bound the scale, which is logarithmic.
function drawHistogram(bins, low, high, marks) {
  const svg = picture(400, 60, 'histogram');
  const place = time => 400 * Math.log(time / low) / Math.log(high / low);
  const most = Math.max(...bins.map(([, , count]) => count));
  const bars = bins.map(([from, to, count]) => {
    // What was met once is seen beside what was met a million times.
    const y = 58 - 56 * Math.log1p(count) / Math.log1p(most);
    return `M${place(from).toFixed(1)} 60V${y.toFixed(1)}H${place(to).toFixed(1)}V60z`;
  });
  svg.append(shape('path', { d: bars.join(''), class: 'bars' }));
  for (const mark of marks) svg.append(shape('path', { d: `M${place(mark).toFixed(1)} 0V60`, class: 'mark' }));
  return svg;
}
