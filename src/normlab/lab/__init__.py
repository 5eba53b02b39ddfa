"""The lab: recipes, runs, records, and what they say.

Nothing here loads torch before a run starts.
"""

from normlab.lab.compare import Progress as Progress
from normlab.lab.compare import compare as compare
from normlab.lab.compare import create as create
from normlab.lab.compare import resume as resume
from normlab.lab.config import RunConfig as RunConfig
from normlab.lab.load import Place as Place
from normlab.lab.load import Results as Results
from normlab.lab.load import Run as Run
from normlab.lab.load import gather as gather
from normlab.lab.load import load as load
from normlab.lab.recipe import Recipe as Recipe
from normlab.lab.recipe import planned_runs as planned_runs
from normlab.lab.recipe import with_words as with_words
from normlab.lab.recipes import RECIPES as RECIPES
from normlab.lab.recipes import recipe_named as recipe_named
from normlab.lab.summary import Summary as Summary
from normlab.lab.summary import summarize as summarize
