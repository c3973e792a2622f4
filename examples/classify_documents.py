"""
Classify documents by their factors
===================================

News articles by topic, by logistic regression on two kinds of rows: each text's hidden states averaged over its tokens,
and the strongest activation of each factor anywhere in the text. The second kind can be read: the factors with the
largest weights for each topic are printed with the tokens they fire on.
"""

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from skfactors import DocumentFactors, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_topics

LAYERS = [2, 4, 6]

topics = load_topics()
# Headlines and first paragraphs: with whole articles it is too easy.
texts = ["\n\n".join(article.split("\n\n")[:2]) for article in topics.data]
train, test, y_train, y_test = train_test_split(
    texts, topics.target, train_size=800, test_size=400, stratify=topics.target, random_state=0
)

states = TransformerFeatureExtractor(demo_model(), layers=LAYERS, level="document", pooling="mean", verbose=True)
raw = make_pipeline(states, StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(train, y_train)

extractor = TransformerFeatureExtractor(demo_model(), layers=LAYERS, verbose=True)
acts = extractor.extract(train)
dictionary = SparseDictionary(256, random_state=0, verbose=True).fit(acts, sample_weight=acts.sample_weight)
factors = make_pipeline(
    DocumentFactors(extractor, dictionary, pooling="max"), MaxAbsScaler(), LogisticRegression(C=1.0, max_iter=2000)
).fit(train, y_train)

console = Console()
table = Table(title=f"{len(train)} articles learned from, {len(test)} classified")
table.add_column("rows")
table.add_column("columns", justify="right")
table.add_column("accuracy", justify="right")
for name, model in (("mean hidden states", raw), ("strongest factor activations", factors)):
    table.add_row(name, str(model[-1].n_features_in_), f"{model.score(test, y_test):.3f}")
console.print(table)

summary = FactorReport.from_texts(extractor, dictionary, train).summary()
table = Table(title="Factors with the largest weights")
for heading in ("topic", "factor", "weight", "tokens it fires on"):
    table.add_column(heading)
for topic, weights in zip(topics.target_names, factors[-1].coef_, strict=True):
    for factor in np.argsort(-weights)[:3]:
        table.add_row(topic, str(factor), f"{weights[factor]:+.2f}", summary.loc[factor, "top_tokens"])
    table.add_section()
console.print(table)
