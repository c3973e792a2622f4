// One factor: its facts, curve and histogram, contexts and neighbours.

// What it says of a factor that its tokens have a pattern in common.
const PATTERNS = {
  repetition: "fires on a token met before",
  position: "fires at the same positions of texts",
  enumeration: "fires in enumerations",
  "one token": "fires on one token only",
};
const OF_A_FACTOR = ["contexts", "shades", "histogram", "saliency", "near-direction", "near-contexts"];
const OF_ITS_RANGE = ["samples", "sample-shades"];

/** Return the sections that the view is drawn from, by name; what a first view does not need is unpacked later. */
async function heldSections() {
  const names = view.range === null ? OF_A_FACTOR : [...OF_A_FACTOR, ...OF_ITS_RANGE];
  const contents = await Promise.all(names.map(section));
  return Object.fromEntries(names.map((name, place) => [name, contents[place]]));
}

/** Draw what is known at once, and after it what has to be unpacked first. */
async function showFactor() {
  const main = document.querySelector("main");
  const asked = JSON.stringify(view);
  main.setAttribute("aria-busy", "true");
  drawFacts(view.factor);
  redraw(byId("importance"), importanceChart([view.factor, ...(view.beside === null ? [] : [view.beside])]));
  drawLayers(view.factor);
  const held = await heldSections();
  if (asked !== JSON.stringify(view)) return;
  drawHistogram(held.histogram);
  drawContexts(held);
  drawNeighbours("near-direction", held["near-direction"], "The report was made without the dictionary, or none is near.");
  drawNeighbours("near-contexts", held["near-contexts"], "No factor has a top context in common with this one.");
  main.setAttribute("aria-busy", "false");
}

/** Replace what is in a box. The focus, where it is in there, goes to what has the same key, or else to the heading. */
function redraw(box, ...children) {
  const focused = box.contains(document.activeElement) ? document.activeElement : null;
  box.replaceChildren(...children);
  if (focused === null) return;
  const same = [...box.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused.dataset.key);
  (same ?? byId("title")).focus({ preventScroll: true });
}

function drawFacts(factor) {
  const fires = factors.frequency[factor] > 0;
  document.title = `Factor ${factor}`;
  byId("title").textContent = `Factor ${factor}`;
  byId("number").value = factor;
  byId("beside").value = view.beside ?? "";
  byId("name").value = names[factor] ?? "";
  byId("tokens").replaceChildren(shortened(factors.top_tokens[factor]), " ", element("small", {}, coverageOf(factor)));
  byId("said").textContent = factors.said[factor] ?? "";
  byId("facts").replaceChildren(levelBadge(factor), ` ${fires ? factsOf(factor).join(" · ") : "never fires in this corpus"}`);
}

/** Say how much of what a factor does its top tokens make up. */
function coverageOf(factor) {
  if (factors.coverage[factor] === null) return "";
  const [rows, activation] = [factors.coverage[factor], factors.activation_coverage[factor]].map((share) => Math.round(100 * share));
  return `about ${rows} % of its active rows, ${activation} % of its activation`;
}

/** Return what is known of a factor that fires, in a few words each. */
function factsOf(factor) {
  const facts = [
    `peak at layer ${factors.peak_layer[factor]}`,
    `strength ${factors.strength[factor].toPrecision(3)}`,
    `active in ${percent(factors.frequency[factor])} of rows`,
    `mean activation ${factors.mean_activation[factor].toPrecision(3)}`,
  ];
  const emergence = factors.emergence[factor];
  if (emergence !== null) facts.push(`emergence ${emergence.toFixed(2)}`);
  if (factors.pattern[factor] !== "") facts.push(PATTERNS[factors.pattern[factor]] ?? factors.pattern[factor]);
  return facts;
}

/** Tell those who do not see the page which factor it shows now. */
function announce() {
  byId("announcement").textContent = `Factor ${view.factor}, ${shortened(labelOf(view.factor))}, ${levelOf(view.factor)}`;
}

function drawLayers(factor) {
  const links = factors.layers.map((layer) => layerLink(factor, layer, String(layer)));
  if (factors.layers.length > 1) links.push(layerLink(factor, ALL_LAYERS, "side by side"));
  redraw(byId("layers"), "Layer ", ...links);
}

function layerLink(factor, layer, label) {
  const link = element("a", { href: linkTo({ factor, layer, range: null }), class: "tab", "data-key": `layer ${layer}` }, label);
  if (layer === shownLayer() && view.range === null) link.setAttribute("aria-current", "true");
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
  redraw(byId("histogram"), total > 0 ? histogramChart(histogram.edges, [...sizes.keys()], [...sizes.values()]) : "none");
}

function drawNeighbours(id, table, none) {
  const links = entriesOf(table, view.factor).map((entry) =>
    neighbourItem(table.neighbour[entry], table.similarity[entry]),
  );
  redraw(byId(id), ...(links.length > 0 ? links : [element("li", { class: "none" }, none)]));
}

function neighbourItem(factor, similarity) {
  const link = element(
    "a",
    { href: linkTo({ factor, layer: null, range: null }) },
    element("b", {}, String(factor)),
    " ",
    shortened(labelOf(factor)),
  );
  const beside = element(
    "a",
    { href: linkTo({ beside: factor, layer: null, range: null }), class: "tab", "aria-label": `Factor ${factor} beside this one` },
    "beside",
  );
  return element("li", { dir: "auto" }, element("small", {}, similarity.toFixed(2)), " ", link, " ", beside);
}
