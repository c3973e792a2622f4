// One factor: its facts, curve and histogram, contexts and neighbours.

/** Draw what is known at once, and after it what has to be unpacked first. */
async function showFactor() {
  const main = document.querySelector("main");
  const { factor, layer } = view;
  main.setAttribute("aria-busy", "true");
  drawFacts(factor);
  byId("importance").replaceChildren(importanceChart(factor));
  drawLayers(factor);
  const [contexts, histogram, saliency, byDirection, byContexts] = await Promise.all(
    ["contexts", "histogram", "saliency", "near-direction", "near-contexts"].map(section),
  );
  if (factor !== view.factor || layer !== view.layer) return;
  drawHistogram(histogram);
  drawContexts(contexts, saliency);
  drawNeighbours("near-direction", byDirection, "The report was made without the dictionary, or none is near.");
  drawNeighbours("near-contexts", byContexts, "No factor has a top context in common with this one.");
  main.setAttribute("aria-busy", "false");
}

function drawFacts(factor) {
  const fires = factors.frequency[factor] > 0;
  document.title = `Factor ${factor}`;
  byId("title").textContent = `Factor ${factor}`;
  byId("number").value = factor;
  byId("name").value = names[factor] ?? "";
  byId("tokens").textContent = shortened(factors.top_tokens[factor]);
  byId("said").textContent = factors.said[factor] ?? "";
  byId("facts").replaceChildren(
    levelBadge(factor),
    fires
      ? ` peak at layer ${factors.peak_layer[factor]} · strength ${factors.strength[factor].toPrecision(3)} · ` +
          `active in ${percent(factors.frequency[factor])} of rows · ` +
          `mean activation ${factors.mean_activation[factor].toPrecision(3)}`
      : " never fires in this corpus",
  );
}

function drawLayers(factor) {
  const links = factors.layers.map((layer) => layerLink(factor, layer, String(layer)));
  if (factors.layers.length > 1) links.push(layerLink(factor, ALL_LAYERS, "side by side"));
  byId("layers").replaceChildren("Layer ", ...links);
}

function layerLink(factor, layer, label) {
  const link = element("a", { href: fragment(factor, layer), class: "tab" }, label);
  if (layer === shownLayer()) link.setAttribute("aria-current", "true");
  return link;
}

function shownLayers() {
  return view.layer === ALL_LAYERS ? factors.layers : [shownLayer()];
}

/** Draw the activations of the shown layers, added up where there are several. */
function drawHistogram(histogram) {
  const sizes = new Map();
  for (const layer of shownLayers()) {
    for (const entry of entriesOf(histogram, groupOf(view.factor, layer))) {
      const bin = histogram.bin[entry];
      sizes.set(bin, (sizes.get(bin) ?? 0) + histogram.size[entry]);
    }
  }
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const where = view.layer === ALL_LAYERS ? "all layers" : `layer ${shownLayer()}`;
  byId("histogram-caption").textContent = `Activations in ${where}: ${total.toLocaleString("en")} rows`;
  const bins = [...sizes.keys()];
  byId("histogram").replaceChildren(total > 0 ? histogramChart(histogram.edges, bins, [...sizes.values()]) : "none");
}

function drawContexts(contexts, saliency) {
  const columns = shownLayers().map((layer) => contextColumn(contexts, saliency, layer));
  byId("contexts").replaceChildren(...columns);
  byId("contexts").className = columns.length > 1 ? "side-by-side" : "";
}

function contextColumn(contexts, saliency, layer) {
  const entries = entriesOf(contexts, groupOf(view.factor, layer));
  const strongest = entries.length > 0 ? contexts.activation[entries[0]] : 0;
  const items = entries.map((entry, place) => {
    const spans = saliency[`${view.factor} ${layer} ${place + 1}`];
    return contextItem(contexts, entry, strongest, spans);
  });
  const heading = view.layer === ALL_LAYERS ? [element("h3", {}, `Layer ${layer}`)] : [];
  const none = element("p", { class: "none" }, "The factor is not active in this layer.");
  return element("section", {}, ...heading, items.length > 0 ? element("ol", {}, ...items) : none);
}

function contextItem(contexts, entry, strongest, spans) {
  const text = contexts.text[entry];
  const activation = element("span", { class: "activation" }, contexts.activation[entry].toPrecision(3));
  activation.style.setProperty("--share", contexts.activation[entry] / strongest);
  const parts = contexts.texts.slice(3 * text, 3 * text + 3);
  const excerpt = element("p", { dir: "auto" }, ...(spans ? shaded(parts, spans) : plain(parts)));
  const isFound = Boolean(found.texts?.[text]);
  return element(
    "li",
    { class: isFound ? "found" : "", title: `document ${contexts.document[text]}, token ${contexts.position[text]}` },
    activation,
    excerpt,
  );
}

function plain([left, token, right]) {
  return [shortened(left), element("mark", {}, shortened(token)), shortened(right)];
}

/** Shade a context by the weights of its spans, the strongest in full colour. */
function shaded(parts, spans) {
  const largest = Math.max(...spans.map(([, , weight]) => Math.abs(weight)), Number.MIN_VALUE);
  let start = 0;
  const pieces = parts.map((part) => {
    const shadedPart = shadedPieces(part, start, spans, largest);
    start += part.length;
    return shadedPart;
  });
  return [...pieces[0], element("mark", { class: "outlined" }, ...pieces[1]), ...pieces[2]];
}

function shadedPieces(part, start, spans, largest) {
  const pieces = [];
  let done = 0;
  for (const [first, last, weight] of spans) {
    const from = Math.max(done, first - start);
    const to = Math.min(part.length, last - start);
    if (from >= to) continue;
    const piece = element("span", { class: "shaded", title: String(weight) }, shortened(part.slice(from, to)));
    const share = Math.round((70 * Math.abs(weight)) / largest);
    piece.style.backgroundColor = `color-mix(in srgb, var(${weight < 0 ? "--against" : "--towards"}) ${share}%, transparent)`;
    pieces.push(shortened(part.slice(done, from)), piece);
    done = to;
  }
  pieces.push(shortened(part.slice(done)));
  return pieces;
}

function drawNeighbours(id, table, none) {
  const links = entriesOf(table, view.factor).map((entry) =>
    neighbourItem(table.neighbour[entry], table.similarity[entry]),
  );
  byId(id).replaceChildren(...(links.length > 0 ? links : [element("li", { class: "none" }, none)]));
}

function neighbourItem(factor, similarity) {
  const label = names[factor] || factors.top_tokens[factor];
  const link = element("a", { href: fragment(factor) }, element("b", {}, String(factor)), " ", shortened(label));
  return element("li", { dir: "auto" }, element("small", {}, similarity.toFixed(2)), " ", link);
}

/** Return the contexts that are shown as CSV. */
async function contextsAsCsv() {
  const contexts = await section("contexts");
  const rows = shownLayers().flatMap((layer) =>
    entriesOf(contexts, groupOf(view.factor, layer)).map((entry, place) => {
      const text = contexts.text[entry];
      const [left, token, right] = contexts.texts.slice(3 * text, 3 * text + 3);
      const where = [contexts.document[text], contexts.position[text]];
      return [view.factor, layer, place + 1, contexts.activation[entry], token, left, right, ...where];
    }),
  );
  const heading = ["factor", "layer", "rank", "activation", "token", "left", "right", "document", "position"];
  return asCsv([heading, ...rows]);
}

/** Draw the examples that the page was made with. */
function drawExamples(examples) {
  byId("examples").hidden = examples.length === 0;
  for (const { title, columns, rows } of examples) {
    byId("examples").append(element("p", { dir: "auto" }, title));
    if (columns.length > 0) byId("examples").append(exampleTable(columns, rows));
  }
}

/** Return what a cell shows: a text, or the factors of a hidden state, with links to them, and what they leave. */
function cellParts(cell) {
  if (typeof cell === "string") return [shortened(cell)];
  const lines = cell.factors.map(([factor, activation, token]) => {
    const label = names[factor] || token;
    return element("div", {}, element("a", { href: fragment(factor) }, String(factor)), ` ${activation} `, element("i", {}, shortened(label)));
  });
  return [...lines, element("small", {}, cell.left)];
}

function exampleTable(columns, rows) {
  const line = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, { dir: "auto" }, ...cellParts(cell))));
  const table = element(
    "table",
    {},
    element("thead", {}, line("th", columns)),
    element("tbody", {}, ...rows.map((row) => line("td", row))),
  );
  return element("div", { class: "scrolled" }, table);
}
