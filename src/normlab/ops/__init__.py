"""The norms as functions of tensors: check, choose the kernel, run it. Statistics go in and come out, none is kept."""

from normlab.ops.batch_norm import batch_norm as batch_norm
from normlab.ops.group_norm import group_norm as group_norm
from normlab.ops.layer_norm import layer_norm as layer_norm
from normlab.ops.moments import Moments as Moments
from normlab.ops.moments import merge as merge
from normlab.ops.rms_norm import rms_norm as rms_norm
