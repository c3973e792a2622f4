// What is being looked at, which the fragment of the address names: #factor=38&layer=2, or layer=all side by side.

const ALL_LAYERS = "all";
const view = { factor: null, layer: null };
let factors;

/** Return the fragment that leads to a factor, and to a layer of it. */
function fragment(factor, layer = null) {
  return `#factor=${factor}${layer === null ? "" : `&layer=${layer}`}`;
}

/** Read the address; a factor or layer that there is none of is passed over. */
function viewInAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const factor = asked.get("factor") === null ? null : knownFactor(asked.get("factor"));
  const layer = asked.get("layer");
  const isKnown = layer === ALL_LAYERS || factors.layers.some((known) => String(known) === layer);
  return { factor, layer: !isKnown ? null : layer === ALL_LAYERS ? layer : Number(layer) };
}

/** Return a factor's number, or null where there is none of that number. */
function knownFactor(text) {
  const number = Number(text);
  return /^\d+$/.test(text) && number < factors.n_factors ? number : null;
}

/** Go to a factor; side by side stays side by side. */
function goTo(factor, layer = view.layer === ALL_LAYERS ? ALL_LAYERS : null) {
  location.hash = fragment(factor, layer);
}

/** Return the layer whose contexts are shown: the one asked for, or the factor's peak. */
function shownLayer() {
  return view.layer ?? factors.peak_layer[view.factor] ?? factors.layers[0];
}

/** Return the number of the group that a factor and a layer make. */
function groupOf(factor, layer) {
  return factor * factors.layers.length + factors.layers.indexOf(layer);
}

/** Return a factor's importance in every layer. */
function curveOf(factor) {
  return factors.importance[factor];
}

function levelOf(factor) {
  return factors.level_names[factors.level[factor]];
}
