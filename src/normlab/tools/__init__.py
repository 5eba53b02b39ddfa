"""Tools that change a model in place and report what they did. Importing this loads no torch until one is used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.tools.accelerate import accelerate_ as accelerate_
    from normlab.tools.drop_bias import drop_bias_ as drop_bias_
    from normlab.tools.evaluating import inference as inference
    from normlab.tools.fold import fold_ as fold_
    from normlab.tools.freeze import freeze_ as freeze_
    from normlab.tools.freeze import unfreeze_ as unfreeze_
    from normlab.tools.grouped import param_groups as param_groups
    from normlab.tools.recalibrate import recalibrate_ as recalibrate_
    from normlab.tools.repair import repair_ as repair_
    from normlab.tools.report import Report as Report
    from normlab.tools.swap import swap_ as swap_
    from normlab.tools.sync import sync_ as sync_
    from normlab.tools.sync import unsync_ as unsync_

PUBLIC = {
    "accelerate_": "accelerate",
    "drop_bias_": "drop_bias",
    "fold_": "fold",
    "freeze_": "freeze",
    "inference": "evaluating",
    "param_groups": "grouped",
    "recalibrate_": "recalibrate",
    "repair_": "repair",
    "Report": "report",
    "swap_": "swap",
    "sync_": "sync",
    "unfreeze_": "freeze",
    "unsync_": "sync",
}


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(f"normlab.tools.{PUBLIC[name]}"), name)
    raise AttributeError(f"module 'normlab.tools' has no attribute {name!r}")
