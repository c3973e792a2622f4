"use strict";

// The page as it was delivered, before anything is drawn: what is saved again with names in it. A copy shares its texts
// with the page, and is there at once; as markup it would be written out at every opening.
const pageAsOpened = document.documentElement.cloneNode(true);

const sections = new Map();

/** Return a promise of a section of the data, which is unpacked when it is first asked for. */
function section(name) {
  if (!sections.has(name)) sections.set(name, unpacked(`data-${name}`));
  return sections.get(name);
}

async function unpacked(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
  // A Blob would take the bytes through another process and back.
  const stream = new Response(bytes).body.pipeThrough(new DecompressionStream("gzip"));
  const content = await new Response(stream).json();
  return content?.counts ? withStarts(content) : content;
}

/** Add where each group's entries start in the columns. */
function withStarts(content) {
  content.starts = new Uint32Array(content.counts.length + 1);
  content.counts.forEach((count, group) => {
    content.starts[group + 1] = content.starts[group] + count;
  });
  return content;
}

/** Return the places of a group's entries in the columns of a section. */
function entriesOf(content, group) {
  const start = content.starts[group];
  return Array.from({ length: content.starts[group + 1] - start }, (_, place) => start + place);
}

/** Return the group of an entry: the last that starts at it or before it. */
function groupOfEntry(content, entry) {
  let [low, high] = [0, content.counts.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (content.starts[middle] <= entry) low = middle;
    else high = middle;
  }
  return low;
}

/** Make an element. Children that are strings become text: nothing is ever read as markup. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Make an element of a drawing. */
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Return the element with an id. */
function byId(id) {
  return document.getElementById(id);
}

/** Say something below the heading; an empty text takes it away. */
function say(text) {
  byId("message").textContent = text;
}

/** Return a share of all rows as a percentage with three digits. */
function percent(share) {
  return `${Number((100 * share).toPrecision(3))} %`;
}

const LONGEST_SHOWN = 300;

/** Cut what is too long to be read; copies and searches have all of it. */
function shortened(text) {
  if (text.length <= LONGEST_SHOWN) return text;
  return `${text.slice(0, LONGEST_SHOWN)}… (${text.length.toLocaleString("en")} characters)`;
}

// A sign that opens a formula where it begins a word; and what spreadsheets skip where it begins a cell.
const COULD_RUN =
  /(?<![\p{L}\p{N}_=+\-@＝＋－＠﹦﹢﹣﹫−])(?=[=+\-@＝＋－＠﹦﹢﹣﹫−])|(?:^|(?<=[;,|\n]))(?=[\t\r])/gu;

/** Return rows of values as CSV; text that a spreadsheet could run as a formula gets apostrophes in front of its signs. */
function asCsv(rows) {
  return rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function csvCell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "").replace(COULD_RUN, "'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}.`);
  } catch {
    say("The browser did not let the page copy; allow it to use the clipboard.");
  }
}
