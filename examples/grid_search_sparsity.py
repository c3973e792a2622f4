"""
Choose the sparsity by grid search
==================================

A pipeline from texts to codes, searched over `alpha` like any other. Folds are split by document, so no text is on both
sides. Three figures tell what a sparsity buys: explained variance, the number of active factors per row (L0), and the
description length, in bits per row, which is shortest somewhere in between.
"""

# sphinx_gallery_thumbnail_path = "_static/frontier.png"

from rich.console import Console
from rich.table import Table
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.metrics import best_below_l0, description_length_scorer, explained_variance_scorer, l0_scorer

texts = [article[:500] for article in load_wikipedia(60)]
pipeline = make_pipeline(
    TransformerFeatureExtractor(demo_model(), layers=[2, 4, 6]),
    SparseDictionary(128, max_iter=4, random_state=0),
)
search = GridSearchCV(
    pipeline,
    {"sparsedictionary__alpha": [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]},
    scoring={
        "description_length": description_length_scorer,
        "explained_variance": explained_variance_scorer,
        "l0": l0_scorer,
    },
    refit="description_length",
    cv=3,
    error_score="raise",
).fit(texts)

results = search.cv_results_
table = Table(title="Sparsity, three-fold cross-validation over documents")
for heading in ("alpha", "bits per row", "explained variance", "L0"):
    table.add_column(heading, justify="right")
for row, alpha in enumerate(results["param_sparsedictionary__alpha"]):
    table.add_row(
        f"{alpha:g}",
        f"{-results['mean_test_description_length'][row]:.0f}",
        f"{results['mean_test_explained_variance'][row]:.3f}",
        f"{-results['mean_test_l0'][row]:.1f}",
        style="bold" if row == search.best_index_ else "",
    )
console = Console()
console.print(table)
console.print(f"Shortest description: alpha = {search.best_params_['sparsedictionary__alpha']:g}")

chosen = best_below_l0(10)(results)
console.print(f"Most explained with ten factors per row: alpha = {results['param_sparsedictionary__alpha'][chosen]:g}")
