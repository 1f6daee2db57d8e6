"""Imported first: silences what tqdm.auto says where ipywidgets is missing; the bars here are plain ones."""

import warnings

warnings.filterwarnings("ignore", message="IProgress not found")
