// What follows on what the reader does.

const KEYS = {
  ArrowRight: () => step(1),
  n: () => step(1),
  ArrowLeft: () => step(-1),
  p: () => step(-1),
  r: () => goToRandom(byId("random-level").value),
  s: () => goTo(view.factor, view.layer === ALL_LAYERS ? null : ALL_LAYERS),
  e: () => byId("name").focus(),
  "/": () => searchBox().focus(),
};
const KEYS_IN_SEARCH = { ArrowDown: () => step(1), ArrowUp: () => step(-1) };

function searchBox() {
  return byId("filters").elements.query;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") event.target.blur();
  const keys = event.target === searchBox() ? KEYS_IN_SEARCH : isTyping ? {} : KEYS;
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

/** Show what the address asks for; without a factor in it, the first of the list. */
function followAddress() {
  const asked = viewInAddress();
  if (asked.factor !== null) document.body.dataset.view = "factor";
  Object.assign(view, asked, { factor: asked.factor ?? view.factor ?? listed[0] ?? 0 });
  say("");
  scrollToFactor();
  return showFactor();
}

function toggleTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
}

function fillChoices() {
  const filters = byId("filters").elements;
  for (const level of LEVEL_ORDER.filter((known) => factors.level_names.includes(known))) {
    filters.level.append(element("option", { value: level }, level));
    byId("random-level").append(element("option", { value: level }, level));
  }
  for (const layer of factors.layers) filters.peak.append(element("option", { value: layer }, String(layer)));
}

function listen() {
  const onClick = {
    previous: () => step(-1),
    next: () => step(1),
    random: () => goToRandom(byId("random-level").value),
    "to-list": () => (document.body.dataset.view = "list"),
    theme: toggleTheme,
    "save-page": savePage,
    "export-names": exportNames,
    "copy-list": () => copy(listAsCsv(), `${listed.length} factors`),
    "copy-contexts": async () => copy(await contextsAsCsv(), "the contexts"),
  };
  for (const [id, action] of Object.entries(onClick)) byId(id).addEventListener("click", action);
  byId("filters").addEventListener("input", refreshAll);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  // A form is cleared only after this event.
  byId("filters").addEventListener("reset", () => setTimeout(refreshAll));
  byId("list").addEventListener("scroll", drawList);
  byId("list").addEventListener("click", openOnPhone);
  byId("number").addEventListener("change", goToNumber);
  byId("name").addEventListener("input", (event) => nameFactor(view.factor, event.target.value));
  byId("import-names").addEventListener("change", (event) => importNames(event.target.files[0]));
  addEventListener("keydown", onKey);
  addEventListener("hashchange", followAddress);
  addEventListener("resize", drawList);
}

/** On a phone the list and the factor take turns; a row that is shown already changes no address. */
function openOnPhone(event) {
  if (event.target.closest("a")) document.body.dataset.view = "factor";
}

function goToNumber(event) {
  const factor = knownFactor(event.target.value);
  if (factor === null) say(`There are factors from 0 to ${factors.n_factors - 1}.`);
  else goTo(factor);
}

function refreshAll() {
  refreshList();
  return showFactor();
}

async function start() {
  factors = await section("factors");
  byId("coverage").textContent = factors.coverage;
  byId("number").max = factors.n_factors - 1;
  rankClearest();
  loadNames();
  fillChoices();
  listen();
  refreshList();
  await followAddress();
  drawExamples(await section("examples"));
  foldTexts(await section("contexts"));
  if (searchBox().value !== "") refreshAll();
}

start().catch((error) => {
  say(`This page could not be drawn (${error.message}). It needs a browser of 2024 or later.`);
  throw error;
});
