"""
Routing between language models
===============================

A small language model answers two questions of three; a large one answers four of five, at sixteen
times the price. Which questions need it? All that is known before a call is the question, and of
past questions whether each model was right. There are no class probabilities, and none are needed:
a table of outcomes will do.

The outcomes are those of RouteLLM (Ong et al., 2024): Mixtral 8x7B and GPT-4 on MMLU, 14,042
questions of 57 subjects, and on GSM8K, 1,319 word problems.
"""

# %%
# Outcomes, prices and what is known beforehand
# ---------------------------------------------
# Prices are assumptions: 0.6 and 10 dollars for a million tokens, four letters a token. They are
# known before the call, and differ from question to question. Of a question the router sees its
# length, its subject and its words, compressed to 30 numbers that are fitted on training rows only.

import matplotlib.pyplot as plt
import numpy as np
from _data import load_routellm
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skquee import CostAwareRouter, PathProbabilities
from skquee.baselines import FixedPath, OracleRouter
from skquee.display import CostCurveDisplay
from skquee.evaluation import paired_bootstrap

NAMES, DOLLARS = ["Mixtral 8x7B", "GPT-4"], np.array([0.6, 10.0])


def lengths(prompts):
    """Return the logarithm of each prompt's length."""
    return np.log([[len(prompt)] for prompt in np.ravel(prompts)])


def learn_context(questions):
    """Fit what turns questions into numbers."""
    words = make_pipeline(TfidfVectorizer(min_df=5), TruncatedSVD(30, random_state=0))
    length = make_pipeline(FunctionTransformer(lengths), StandardScaler())
    subject = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = (length, [0]), (words, 0), (subject, [1])
    return make_column_transformer(*parts, sparse_threshold=0).fit(questions)


def table_of(questions, wrong, context):
    """Return the table of outcomes; a price is that of a thousand such questions."""
    tokens = np.array([len(prompt) / 4 for prompt in questions[:, 0]])
    return PathProbabilities.from_outcomes(
        wrong,
        context=context.transform(questions),
        costs=tokens[:, None] / 1000 * DOLLARS,
        names=NAMES,
        cost_unit="$ for 1,000 questions",
    )


# %%
# Routers and what they reach
# ---------------------------
# Half of the questions fit the router, the other half measures. A random mixture of the two models
# is what anyone gets without looking at the questions; the oracle knows the outcomes.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for name, ax in zip(("mmlu", "gsm8k"), axes, strict=True):
    questions, wrong = load_routellm(name)
    rows = np.arange(len(questions))
    train, test = train_test_split(rows, test_size=0.5, random_state=0)
    context = learn_context(questions[train])
    table = table_of(questions[train], wrong[train], context)
    new = table_of(questions[test], wrong[test], context)

    router = CostAwareRouter(targets="bernoulli", regressor="logistic", random_state=0)
    router.fit(table)
    fixed, oracle = FixedPath().fit(table), OracleRouter().fit(table)
    curves = {
        "router": router.cost_curve(None, new),
        "mixture": fixed.cost_curve(None, new),
        "oracle": oracle.cost_curve(None, new),
    }
    gain = paired_bootstrap(curves["router"], curves["mixture"], random_state=0)
    low, high = curves["mixture"].cost
    middle = (low + high) / 2
    print(
        f"{name}: at {middle:.2f} $ router {curves['router'].accuracy_at(middle):.1%}, "
        f"mixture {curves['mixture'].accuracy_at(middle):.1%}\n"
        f"    area, router less mixture {gain.difference:+.4f} "
        f"({gain.low:+.4f} to {gain.high:+.4f})"
    )
    CostCurveDisplay.from_predictions(
        [curves["router"]],
        fixed=curves["mixture"],
        oracle=curves["oracle"],
        names=["router"],
        legend="none" if ax is axes[0] else "auto",
        ax=ax,
    )
    ax.set_title(f"{name.upper()}, {len(test):,} questions", loc="left")

# %%
# A budget, and the questions it is spent on
# ------------------------------------------
# ``at_budget`` holds a mean price. The last line tells what the gate saw of one question.

held = router.at_budget(middle, new, random_state=0)
print(f"asked for {middle:.2f} $, spent {held.predict_cost(new).mean():.2f} $")
told = router.set_params(lambda_=0.3).explain_route(new[:1])
print(told.iloc[:, 2:9].to_string(index=False))
