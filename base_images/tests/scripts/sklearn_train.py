"""Trains a scikit-learn classifier on handwritten digits, stores it, loads it and checks it.

The data set comes with scikit-learn: no network is needed. Exits with a message when the model is not good enough.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import joblib
import numpy
import sklearn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """Train, score, and score again after a round trip through a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least-accuracy", type=float, default=0.93, help="Share of digits that must be recognised.")
    options = parser.parse_args()
    print(f"scikit-learn {sklearn.__version__}, NumPy {numpy.__version__}", flush=True)

    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images, digits, test_size=0.25, random_state=7, stratify=digits
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(train_images, train_digits)
    accuracy = model.score(test_images, test_digits)
    print(f"accuracy {accuracy:.3f} on {len(test_digits)} images", flush=True)
    if accuracy < options.least_accuracy:
        sys.exit(f"the accuracy is {accuracy:.3f}, it should be at least {options.least_accuracy}")

    outputs = Path(os.environ.get("AML_IMAGES_OUTPUTS", "outputs"))
    outputs.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, outputs / "model.joblib")
    loaded = joblib.load(outputs / "model.joblib")
    if not (loaded.predict(test_images) == model.predict(test_images)).all():
        sys.exit("the model predicts something else after it was stored and loaded")
    print(f"the model is in {outputs / 'model.joblib'}", flush=True)


if __name__ == "__main__":
    main()
