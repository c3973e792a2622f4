"""
Classify documents by their factors
===================================

Film reviews, fresh or rotten, by logistic regression on two kinds of rows: each text's hidden states averaged over its
tokens, and the strongest activation of each factor anywhere in the text. The second kind can be read: the factors with
the largest weights are printed with the tokens they fire on.
"""

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from skfactors import DocumentFactors, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_reviews

LAYERS = [2, 4, 6]

reviews = load_reviews()
texts, _, y, _ = train_test_split(
    reviews.data, reviews.target, train_size=1200, stratify=reviews.target, random_state=0
)
train, test, y_train, y_test = train_test_split(texts, y, test_size=400, stratify=y, random_state=0)

states = TransformerFeatureExtractor(demo_model(), layers=LAYERS, level="document", pooling="mean", verbose=True)
raw = make_pipeline(states, StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(train, y_train)

extractor = TransformerFeatureExtractor(demo_model(), layers=LAYERS, verbose=True)
acts = extractor.extract(train)
dictionary = SparseDictionary(256, random_state=0, verbose=True).fit(acts, sample_weight=acts.sample_weight)
factors = make_pipeline(
    DocumentFactors(extractor, dictionary, pooling="max"), MaxAbsScaler(), LogisticRegression(C=1.0, max_iter=2000)
).fit(train, y_train)

console = Console()
table = Table(title=f"{len(train)} reviews learned from, {len(test)} classified")
table.add_column("rows")
table.add_column("columns", justify="right")
table.add_column("accuracy", justify="right")
for name, model in (("mean hidden states", raw), ("strongest factor activations", factors)):
    table.add_row(name, str(model[-1].n_features_in_), f"{model.score(test, y_test):.3f}")
console.print(table)

summary = FactorReport.from_texts(extractor, dictionary, train).summary()
weights = factors[-1].coef_[0]
table = Table(title="Factors with the largest weights")
for heading in ("factor", "weight", "speaks for", "tokens it fires on"):
    table.add_column(heading)
for factor in np.argsort(-abs(weights))[:10]:
    verdict = reviews.target_names[int(weights[factor] > 0)]
    table.add_row(str(factor), f"{weights[factor]:+.2f}", verdict, summary.loc[factor, "top_tokens"])
console.print(table)
