"""The methods of saliency by name; a new one is one file and one line here."""

from skfactors.reports.saliency.gradient import gradient
from skfactors.reports.saliency.group_occlusion import group_occlusion
from skfactors.reports.saliency.lime import lime
from skfactors.reports.saliency.occlusion import occlusion

# Each takes a ModelProbe, a FactorModel, groups of contexts by window, `n_samples` and `seed`, and yields the number of
# each context and its saliency.
METHODS = {"lime": lime, "occlusion": occlusion, "group_occlusion": group_occlusion, "gradient": gradient}
