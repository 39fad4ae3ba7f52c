// Elements, and numbers as people read them. Text from a trace becomes a text node, never markup.

const h = (tag, attributes, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "style") for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};

// A name may be written from right to left: `bdi` keeps it from turning the text around it.
const named = (text, className) => h("bdi", { class: className ? `name ${className}` : "name" }, text || "(no name)");

const LONGEST_IN_HEADING = 80;

const brief = (text) => (text.length > LONGEST_IN_HEADING ? `${text.slice(0, LONGEST_IN_HEADING - 1)}\u2026` : text);

const onlyRead = (text) => h("span", { class: "sr-only" }, text);

const seconds = (value) => {
  if (value < 0.9995) return `${value >= 0.00995 || !value ? (value * 1e3).toFixed(0) : (value * 1e3).toFixed(1)}\u00a0ms`;
  if (value < 119.5) return `${value.toFixed(value < 9.995 ? 2 : 1)}\u00a0s`;
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  const two = (number) => String(number).padStart(2, "0");
  return minutes < 60 ? `${minutes}m ${two(whole % 60)}s` : `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
};

// Keeps a number and its unit on one line.
const unbroken = (text) => text.replace(/(\d) (m?s\b)/g, "$1\u00a0$2");

const number = (value) => value.toLocaleString("en-US");

const percent = (part, whole) => `${whole ? Math.round((100 * part) / whole) : 0}%`;

const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// `2026-11-21 10:26:08 UTC`
const moment = (secondsOfEpoch) => {
  const date = new Date(Math.min(Math.max(secondsOfEpoch, 0) * 1e3, 8.64e15));
  return `${date.toISOString().replace("T", " ").replace(/\..*/, "")} UTC`;
};
