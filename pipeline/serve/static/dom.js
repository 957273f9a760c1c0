// Elements from values. Text is always text: names of files and classes are never read as HTML.

const SVG = 'http://www.w3.org/2000/svg';

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'muted') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (tag, attributes, ...children) =>
  filled(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

// A coloured square; the page's policy lets no style be written into HTML.
export function chip(color) {
  const element = h('i', { class: 'chip' });
  element.style.background = color;
  return element;
}

export const count = (n) => n.toLocaleString('en');

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// 0:07.25, 1:02:03.50
export function clock(seconds, digits = 2) {
  const unit = 10 ** digits;
  const total = Math.round(Math.abs(seconds) * unit);
  const whole = Math.floor(total / unit);
  const rest = digits ? `.${String(total % unit).padStart(digits, '0')}` : '';
  const two = (n) => String(n).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const head = hours ? `${hours}:${two(minutes)}` : `${minutes}`;
  return `${seconds < 0 && total ? '-' : ''}${head}:${two(whole % 60)}${rest}`;
}

export function said(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return hours < 48 ? `${hours.toFixed(hours < 10 ? 1 : 0)} h` : `${Math.round(hours / 24)} days`;
}

export const notice = (text, kind = '') =>
  h('p', { class: `notice ${kind}`, role: 'status' }, text);
