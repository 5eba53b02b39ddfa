"""Layers that stand in for those of `torch.nn`: the same signature, state and numbers."""

from normlab.layers import quantization
from normlab.layers.batch_norm import BatchNorm1d as BatchNorm1d
from normlab.layers.batch_norm import BatchNorm2d as BatchNorm2d
from normlab.layers.batch_norm import BatchNorm3d as BatchNorm3d
from normlab.layers.batch_norm import SyncBatchNorm as SyncBatchNorm
from normlab.layers.batch_norm_act import BatchNormAct1d as BatchNormAct1d
from normlab.layers.batch_norm_act import BatchNormAct2d as BatchNormAct2d
from normlab.layers.batch_norm_act import BatchNormAct3d as BatchNormAct3d
from normlab.layers.batch_renorm import BatchRenorm1d as BatchRenorm1d
from normlab.layers.batch_renorm import BatchRenorm2d as BatchRenorm2d
from normlab.layers.batch_renorm import BatchRenorm3d as BatchRenorm3d
from normlab.layers.domain_batch_norm import DomainBatchNorm1d as DomainBatchNorm1d
from normlab.layers.domain_batch_norm import DomainBatchNorm2d as DomainBatchNorm2d
from normlab.layers.domain_batch_norm import DomainBatchNorm3d as DomainBatchNorm3d
from normlab.layers.domain_batch_norm import domain as domain
from normlab.layers.functional_call import functional_call as functional_call
from normlab.layers.ghost_batch_norm import GhostBatchNorm1d as GhostBatchNorm1d
from normlab.layers.ghost_batch_norm import GhostBatchNorm2d as GhostBatchNorm2d
from normlab.layers.ghost_batch_norm import GhostBatchNorm3d as GhostBatchNorm3d
from normlab.layers.group_norm import GroupNorm as GroupNorm
from normlab.layers.instance_norm import InstanceNorm1d as InstanceNorm1d
from normlab.layers.instance_norm import InstanceNorm2d as InstanceNorm2d
from normlab.layers.instance_norm import InstanceNorm3d as InstanceNorm3d
from normlab.layers.layer_norm import LayerNorm as LayerNorm
from normlab.layers.rms_norm import RMSNorm as RMSNorm
from normlab.layers.scopes import accumulate as accumulate
from normlab.layers.scopes import stats_frozen as stats_frozen

quantization.register()
