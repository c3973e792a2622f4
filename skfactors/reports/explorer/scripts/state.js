// What is being looked at, all of which the address keeps: #factor=38&layer=2&query=war&theme=dark

const ALL_LAYERS = "all";
const WHOLE_RANGE = "all";
// How an entry of the browser's history says that its address names everything, and not only what a link changes.
const WHOLE = "whole";
const view = { factor: null, layer: null, beside: null, range: null, shade: null, show: "list" };
let factors;

/** Return the fragment that leads to a factor, and to a layer of it. */
function fragment(factor, layer = null) {
  return linkTo({ factor, layer });
}

/** Return the fragment of a view that differs from the shown one in some things; what a link leaves out stays as it is. */
function linkTo(changes) {
  const { factor, layer, beside, range } = { ...view, ...changes };
  const named = Object.entries({ factor, layer, beside, range }).filter(([, value]) => value !== null);
  return `#${new URLSearchParams(named)}`;
}

/** Return the fragment of another factor: side by side stays side by side, and the whole range the whole range. */
function linkToFactor(factor) {
  return linkTo({
    factor,
    layer: view.layer === ALL_LAYERS ? ALL_LAYERS : null,
    range: view.range === WHOLE_RANGE ? WHOLE_RANGE : null,
  });
}

/** Go to a factor. */
function goTo(factor) {
  location.hash = linkToFactor(factor);
}

/** Read the address; what there is none of is passed over. */
function viewInAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const layer = asked.get("layer");
  const isKnown = layer === ALL_LAYERS || factors.layers.some((known) => String(known) === layer);
  const range = asked.get("range");
  return {
    factor: knownFactor(asked.get("factor")),
    layer: !isKnown ? null : layer === ALL_LAYERS ? layer : Number(layer),
    beside: knownFactor(asked.get("beside")),
    range: range === WHOLE_RANGE ? range : /^\d{1,3}$/.test(range ?? "") ? Number(range) : null,
    show: ["list", "map"].includes(asked.get("view")) ? asked.get("view") : "factor",
  };
}

/** Put everything that is shown into the address. */
function keepInAddress() {
  const address = new URLSearchParams(linkTo({}).slice(1));
  if (view.show !== "factor") address.set("view", view.show);
  for (const field of byId("filters").elements) {
    const value = field.type === "checkbox" ? (field.checked ? "on" : "") : field.value;
    if (field.name !== "" && value !== "" && value !== field.options?.[0].value) address.set(field.name, value);
  }
  if (view.shade !== null) address.set("shade", view.shade);
  if (document.documentElement.dataset.theme) address.set("theme", document.documentElement.dataset.theme);
  history.replaceState(WHOLE, "", `#${address}`);
}

/** Fill the form as the address says, or only what it names; return whether a field was filled. */
function fillFromAddress(namesAll = true) {
  const asked = new URLSearchParams(location.hash.slice(1));
  const fields = [...byId("filters").elements].filter(({ name }) => name !== "" && (namesAll || asked.has(name)));
  for (const field of fields) {
    if (field.type === "checkbox") field.checked = asked.has(field.name);
    else field.value = asked.get(field.name) ?? field.options?.[0].value ?? "";
    if (field.selectedIndex === -1) field.selectedIndex = 0;
  }
  return fields.length > 0;
}

/** Take light or dark and the shading from the address, where it names them. */
function followAppearance() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (["light", "dark"].includes(asked.get("theme"))) document.documentElement.dataset.theme = asked.get("theme");
  if (["saliency", "activation"].includes(asked.get("shade"))) view.shade = asked.get("shade");
}

/** Return a factor's number, or null where there is none of that number. */
function knownFactor(text) {
  const number = Number(text);
  return /^\d+$/.test(text ?? "") && number < factors.n_factors ? number : null;
}

/** Return the layer whose contexts are shown of a factor: the one asked for, or its peak. */
function shownLayer(factor = view.factor) {
  return view.layer ?? factors.peak_layer[factor] ?? factors.layers[0];
}

/** Return the number of the group that a factor and a layer make. */
function groupOf(factor, layer) {
  return factor * factors.layers.length + factors.layers.indexOf(layer);
}

function factorOfGroup(group) {
  return Math.floor(group / factors.layers.length);
}

/** Return a factor's importance in every layer. */
function curveOf(factor) {
  return factors.importance[factor];
}

function levelOf(factor) {
  return factors.level_names[factors.level[factor]];
}

/** Return what a factor is called: by the reader, or by its top tokens. */
function labelOf(factor) {
  return names[factor] || factors.top_tokens[factor] || "never fires";
}
