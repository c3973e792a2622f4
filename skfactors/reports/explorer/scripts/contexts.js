// The contexts of a factor: its strongest, random ones from its whole range, or those of one bar of the histogram.

const FACTORS_NAMED = 12;
const TENTHS = 10;

/** Return what is shown, column by column: a factor in its layers, or two factors. A range is one of all layers. */
function shownColumns() {
  if (view.layer === ALL_LAYERS && view.range === null) return factors.layers.map((layer) => ({ factor: view.factor, layer }));
  const shown = [view.factor, ...(view.beside === null ? [] : [view.beside])];
  return shown.map((factor) => ({ factor, layer: view.range === null ? shownLayer(factor) : null }));
}

/** Return the lines of a column: which text, its activation and layer, and what is known of its tokens. */
function linesOf({ factor, layer }, held) {
  if (layer !== null) return strongestOfLayer(factor, layer, held);
  const random = entriesOf(held.samples, factor).map((entry) => ({
    ...lineOf(held.samples, entry, held["sample-shades"], held.samples.layer[entry]),
    quantile: held.samples.quantile[entry],
  }));
  if (view.range === WHOLE_RANGE) return random;
  const [lower, upper] = boundsOf(view.range, held.histogram.edges);
  const known = new Map();
  for (const line of [...factors.layers.flatMap((one) => strongestOfLayer(factor, one, held)), ...random]) {
    if (line.activation >= lower && line.activation < upper) known.set(`${line.layer} ${line.document} ${line.position}`, line);
  }
  return [...known.values()].sort((one, other) => other.activation - one.activation);
}

function strongestOfLayer(factor, layer, held) {
  return entriesOf(held.contexts, groupOf(factor, layer)).map((entry, place) => ({
    ...lineOf(held.contexts, entry, held.shades, layer),
    text: held.contexts.text[entry],
    saliency: held.saliency[`${factor} ${layer} ${place + 1}`],
  }));
}

function lineOf(table, entry, shades, layer) {
  const text = table.text[entry];
  return {
    layer,
    activation: table.activation[entry],
    parts: table.texts.slice(3 * text, 3 * text + 3),
    document: table.document[text],
    position: table.position[text],
    shades: spansOf(shades, entry),
  };
}

/** Return the start, end and share of each token of a line on which its factor is active, too. */
function spansOf(shades, entry) {
  let end = 0;
  return entriesOf(shades, entry).map((place) => {
    const start = end + shades.gap[place];
    end = start + shades.length[place];
    return [start, end, shades.percent[place] / 100];
  });
}

/** Return between which activations a bar of the histogram is; the first and the last count all beyond. */
function boundsOf(bin, edges) {
  return [bin === 0 ? 0 : (edges[bin] ?? Infinity), bin === edges.length - 2 ? Infinity : (edges[bin + 1] ?? Infinity)];
}

/** Say between which activations a bar is. */
function rangeOf(bin, edges) {
  const [lower, upper] = boundsOf(bin, edges);
  if (bin === 0) return `below ${upper.toPrecision(2)}`;
  return upper === Infinity ? `${lower.toPrecision(2)} and more` : `${lower.toPrecision(2)} to ${upper.toPrecision(2)}`;
}

function drawContexts(held) {
  const columns = shownColumns();
  redraw(byId("contexts"), ...columns.map((column) => contextColumn(column, held, columns.length > 1)));
  byId("contexts").className = columns.length > 1 ? "side-by-side" : "";
  drawRanges(held);
  drawLegend(held);
}

function contextColumn({ factor, layer }, held, isOneOfMany) {
  const lines = linesOf({ factor, layer }, held);
  const strongest = strongestActivation(factor, layer ?? factors.peak_layer[factor] ?? factors.layers[0], held);
  const items = lines.flatMap((line, place) => [
    ...tenthHeading(line, lines[place - 1]),
    contextItem(line, factor, held, strongest, `${factor} ${layer} ${place}`),
  ]);
  return element(
    "section",
    {},
    ...(isOneOfMany ? columnHeading(factor, layer) : []),
    items.length > 0 ? element("ol", {}, ...items) : element("p", { class: "none" }, whyNone()),
  );
}

function whyNone() {
  if (view.range === null) return "The factor is not active in this layer.";
  if (view.range === WHOLE_RANGE) return "The factor is never active, or the report was made without random contexts.";
  return "Of the contexts that the report kept, none lies in this range.";
}

function strongestActivation(factor, layer, held) {
  const [entry] = entriesOf(held.contexts, groupOf(factor, layer));
  return entry === undefined ? Infinity : held.contexts.activation[entry];
}

function columnHeading(factor, layer) {
  if (view.layer === ALL_LAYERS && layer !== null) return [element("h3", {}, `Layer ${layer}`)];
  const heading = element("h3", { dir: "auto" }, `Factor ${factor}${layer === null ? "" : `, layer ${layer}`} `);
  heading.append(element("span", { class: "none" }, shortened(labelOf(factor))));
  if (factor !== view.beside) return [heading];
  const facts = element("p", { class: "none" }, levelBadge(factor), ` ${peakText(factor)}active in ${percent(factors.frequency[factor])} of rows `);
  facts.append(
    element("a", { href: linkTo({ factor: view.beside, beside: view.factor }), "data-key": "swap" }, "Swap"),
    " · ",
    element("a", { href: linkTo({ beside: null }), "data-key": "close" }, "Close"),
  );
  return [heading, facts];
}

/** Say where a tenth of the factor's activations begins. */
function tenthHeading(line, before) {
  if (line.quantile === undefined || line.quantile === before?.quantile) return [];
  const down = 10 * (TENTHS + 1 - line.quantile);
  const name = line.quantile === TENTHS ? "The strongest tenth" : line.quantile === 1 ? "The weakest tenth" : `Down to ${down} %`;
  return [element("li", { class: "tenth" }, name)];
}

function contextItem(line, factor, held, strongest, key) {
  const activation = element("span", { class: "activation" }, line.activation.toPrecision(3));
  const share = Math.min(1, line.activation / strongest);
  activation.style.setProperty("--share", share);
  const excerpt = element("span", { class: "excerpt", dir: "auto" }, ...shadedParts(line, share));
  const layer = view.range === null ? [] : [element("small", {}, `layer ${line.layer}`)];
  const measure = element("span", { class: "measure" }, activation, ...layer);
  const details = element("details", {}, element("summary", { "data-key": key }, measure, excerpt));
  details.addEventListener("toggle", () => {
    if (details.children.length === 1) details.append(contextFacts(line, factor, held));
  });
  return element("li", { class: found.texts?.[line.text] ? "found" : "" }, details);
}

/** Return what more is known of a context: where it is, and which other factors have it among their strongest. */
function contextFacts(line, own, held) {
  const others = new Map();
  held.contexts.text.forEach((text, entry) => {
    if (held.contexts.document[text] !== line.document || held.contexts.position[text] !== line.position) return;
    const factor = factorOfGroup(groupOfEntry(held.contexts, entry));
    if (factor !== own) others.set(factor, Math.max(others.get(factor) ?? 0, held.contexts.activation[entry]));
  });
  const strongestFirst = [...others].sort(([, one], [, other]) => other - one).slice(0, FACTORS_NAMED);
  const links = strongestFirst.flatMap(([factor, activation]) => [
    " · ",
    element("a", { href: linkToFactor(factor) }, `${factor} ${shortened(labelOf(factor))}`),
    ` ${activation.toPrecision(3)}`,
  ]);
  const where = `Document ${line.document}, token ${line.position}, layer ${line.layer}, activation ${line.activation}. `;
  const heading = links.length > 0 ? "Also among the strongest of" : "Among the strongest of no other factor.";
  return element("p", { class: "none", dir: "auto" }, where, heading, ...links);
}

/** Shade a context's tokens by saliency where that is asked for and known, and otherwise by activation. */
function shadedParts({ parts, saliency, shades }, share) {
  if (saliency && shownShade() === "saliency") return bySaliency(parts, saliency);
  const pieces = inParts(parts, shades, (piece, weight) => shadedPiece(piece, "--marked", weight, `${Math.round(100 * weight)} %`));
  const token = element("mark", view.range === null ? {} : { class: "placed" }, shortened(parts[1]));
  if (view.range !== null) token.style.backgroundColor = mixed("--marked", share);
  return [...pieces[0], token, ...pieces[2]];
}

function bySaliency(parts, spans) {
  const largest = Math.max(...spans.map(([, , weight]) => Math.abs(weight)), Number.MIN_VALUE);
  const pieces = inParts(parts, spans, (piece, weight) =>
    shadedPiece(piece, weight < 0 ? "--against" : "--towards", (0.7 * Math.abs(weight)) / largest, String(weight)),
  );
  return [...pieces[0], element("mark", { class: "outlined" }, ...pieces[1]), ...pieces[2]];
}

function shadedPiece(text, colour, weight, title) {
  const piece = element("span", { class: "shaded", title }, text);
  piece.style.backgroundColor = mixed(colour, weight);
  return piece;
}

function mixed(colour, weight) {
  return `color-mix(in srgb, var(${colour}) ${Math.round(100 * Math.min(1, weight))}%, transparent)`;
}

/** Cut each part of a context at the ends of spans, and let a function make what is within one. */
function inParts(parts, spans, make) {
  let start = 0;
  return parts.map((part) => {
    const pieces = [];
    let done = 0;
    for (const [first, last, weight] of spans) {
      const from = Math.max(done, first - start);
      const to = Math.min(part.length, last - start);
      if (from >= to) continue;
      pieces.push(shortened(part.slice(done, from)), make(shortened(part.slice(from, to)), weight));
      done = to;
    }
    pieces.push(shortened(part.slice(done)));
    start += part.length;
    return pieces;
  });
}

function shownShade() {
  return view.shade ?? "saliency";
}

function drawRanges(held) {
  const links = [
    rangeLink(null, "strongest"),
    rangeLink(WHOLE_RANGE, "from the whole range"),
  ];
  if (typeof view.range === "number") {
    links.push(rangeLink(view.range, `${rangeOf(view.range, held.histogram.edges)} in any layer`));
  }
  redraw(byId("ranges"), "Contexts ", ...links);
}

function rangeLink(range, label) {
  const link = element("a", { href: linkTo({ range }), class: "tab", "data-key": `range ${range}` }, label);
  if (range === view.range) link.setAttribute("aria-current", "true");
  return link;
}

/** Say what shades mean; the choice is there only where a shown context has a saliency. */
function drawLegend(held) {
  const hasSaliency = shownColumns().some((column) => linesOf(column, held).some((line) => line.saliency));
  byId("shading").hidden = !hasSaliency;
  byId("shade").value = shownShade();
  const swatch = (colour, weight, text) => shadedPiece(text, colour, weight, "");
  byId("legend").replaceChildren(
    ...(hasSaliency && shownShade() === "saliency"
      ? [
          swatch("--towards", 0.7, "makes it active"),
          " ",
          swatch("--against", 0.7, "holds it down"),
          " ",
          element("mark", { class: "outlined" }, "the token"),
        ]
      : ["active on ", swatch("--marked", 0.15, "some"), swatch("--marked", 0.5, " more "), element("mark", {}, "the token")]),
  );
}

/** Return the contexts that are shown as CSV. */
async function contextsAsCsv() {
  const held = await heldSections();
  const rows = shownColumns().flatMap(({ factor, layer }) =>
    linesOf({ factor, layer }, held).map((line, place) => {
      const [left, token, right] = line.parts;
      return [factor, line.layer, place + 1, line.activation, token, left, right, line.document, line.position];
    }),
  );
  const heading = ["factor", "layer", "rank", "activation", "token", "left", "right", "document", "position"];
  return asCsv([heading, ...rows]);
}
