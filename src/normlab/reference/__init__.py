"""NumPy in float64: the specification that everything else is held against.

Each op `foo(x, ...)` has its gradient `foo_vjp(dy, x, ...)`, which returns one gradient per differentiable
input, in order, and recomputes what it needs. The norms also have `foo_steps`, the computational graph with
every value kept.
"""

from normlab.reference.activations import leaky_relu as leaky_relu
from normlab.reference.activations import leaky_relu_vjp as leaky_relu_vjp
from normlab.reference.activations import relu as relu
from normlab.reference.activations import relu_vjp as relu_vjp
from normlab.reference.activations import sigmoid as sigmoid
from normlab.reference.activations import sigmoid_vjp as sigmoid_vjp
from normlab.reference.activations import tanh as tanh
from normlab.reference.activations import tanh_vjp as tanh_vjp
from normlab.reference.batch_norm import batch_norm as batch_norm
from normlab.reference.batch_norm import batch_norm_statistics as batch_norm_statistics
from normlab.reference.batch_norm import batch_norm_steps as batch_norm_steps
from normlab.reference.batch_norm import batch_norm_vjp as batch_norm_vjp
from normlab.reference.batch_renorm import batch_renorm as batch_renorm
from normlab.reference.batch_renorm import batch_renorm_vjp as batch_renorm_vjp
from normlab.reference.batches import shuffled_batches as shuffled_batches
from normlab.reference.built_network import BuiltNetwork as BuiltNetwork
from normlab.reference.chain import dropout_seed as dropout_seed
from normlab.reference.channel_rms_norm import channel_rms_norm as channel_rms_norm
from normlab.reference.channel_rms_norm import channel_rms_norm_steps as channel_rms_norm_steps
from normlab.reference.channel_rms_norm import channel_rms_norm_vjp as channel_rms_norm_vjp
from normlab.reference.conv import conv as conv
from normlab.reference.conv import conv_vjp as conv_vjp
from normlab.reference.conv_net import ConvNet as ConvNet
from normlab.reference.dropout import dropout as dropout
from normlab.reference.dropout import dropout_vjp as dropout_vjp
from normlab.reference.fully_connected import FullyConnected as FullyConnected
from normlab.reference.ghost_batch_norm import ghost_batch_norm as ghost_batch_norm
from normlab.reference.ghost_batch_norm import ghost_batch_norm_statistics as ghost_batch_norm_statistics
from normlab.reference.ghost_batch_norm import ghost_batch_norm_vjp as ghost_batch_norm_vjp
from normlab.reference.ghost_batch_norm import ghost_batches as ghost_batches
from normlab.reference.global_pool import global_avg_pool as global_avg_pool
from normlab.reference.global_pool import global_avg_pool_vjp as global_avg_pool_vjp
from normlab.reference.gradient import GradientCheck as GradientCheck
from normlab.reference.gradient import check_gradient as check_gradient
from normlab.reference.gradient import numeric_gradient as numeric_gradient
from normlab.reference.gradient import relative_error as relative_error
from normlab.reference.group_norm import group_norm as group_norm
from normlab.reference.group_norm import group_norm_steps as group_norm_steps
from normlab.reference.group_norm import group_norm_vjp as group_norm_vjp
from normlab.reference.instance_norm import instance_norm as instance_norm
from normlab.reference.instance_norm import instance_norm_steps as instance_norm_steps
from normlab.reference.instance_norm import instance_norm_vjp as instance_norm_vjp
from normlab.reference.layer import Layer as Layer
from normlab.reference.layer_norm import layer_norm as layer_norm
from normlab.reference.layer_norm import layer_norm_steps as layer_norm_steps
from normlab.reference.layer_norm import layer_norm_vjp as layer_norm_vjp
from normlab.reference.layers import activation_layer as activation_layer
from normlab.reference.layers import conv_layer as conv_layer
from normlab.reference.layers import dropout_layers as dropout_layers
from normlab.reference.layers import flatten_layer as flatten_layer
from normlab.reference.layers import global_avg_pool_layer as global_avg_pool_layer
from normlab.reference.layers import linear_layer as linear_layer
from normlab.reference.layers import max_pool_layer as max_pool_layer
from normlab.reference.layers import norm_layers as norm_layers
from normlab.reference.linear import linear as linear
from normlab.reference.linear import linear_vjp as linear_vjp
from normlab.reference.losses import LOSSES as LOSSES
from normlab.reference.losses import hinge as hinge
from normlab.reference.losses import hinge_vjp as hinge_vjp
from normlab.reference.losses import mean_squared_error as mean_squared_error
from normlab.reference.losses import mean_squared_error_vjp as mean_squared_error_vjp
from normlab.reference.losses import softmax_cross_entropy as softmax_cross_entropy
from normlab.reference.losses import softmax_cross_entropy_vjp as softmax_cross_entropy_vjp
from normlab.reference.merge_moments import merge_moments as merge_moments
from normlab.reference.network import Network as Network
from normlab.reference.optimizers import OPTIMIZERS as OPTIMIZERS
from normlab.reference.optimizers import adam as adam
from normlab.reference.optimizers import momentum as momentum
from normlab.reference.optimizers import rmsprop as rmsprop
from normlab.reference.optimizers import sgd as sgd
from normlab.reference.pool import avg_pool as avg_pool
from normlab.reference.pool import avg_pool_vjp as avg_pool_vjp
from normlab.reference.pool import max_pool as max_pool
from normlab.reference.pool import max_pool_vjp as max_pool_vjp
from normlab.reference.propagation import accuracy as accuracy
from normlab.reference.propagation import loss_and_gradients as loss_and_gradients
from normlab.reference.propagation import scores as scores
from normlab.reference.rms_norm import rms_norm as rms_norm
from normlab.reference.rms_norm import rms_norm_steps as rms_norm_steps
from normlab.reference.rms_norm import rms_norm_vjp as rms_norm_vjp
from normlab.reference.running import update_running as update_running
from normlab.reference.sequential import Sequential as Sequential
from normlab.reference.solver import Solver as Solver
from normlab.reference.start import init_parameters as init_parameters
from normlab.reference.start import init_running as init_running
from normlab.reference.steps import Step as Step
from normlab.reference.steps import Steps as Steps
from normlab.reference.training import Snapshot as Snapshot
from normlab.reference.training import Trained as Trained
from normlab.reference.training import train as train
from normlab.reference.training_step import training_step as training_step
from normlab.reference.view import View as View
from normlab.reference.view import batch_view as batch_view
from normlab.reference.view import by_set as by_set
from normlab.reference.view import group_view as group_view
from normlab.reference.view import instance_view as instance_view
from normlab.reference.view import layer_view as layer_view

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "BuiltNetwork",
    "ConvNet",
    "FullyConnected",
    "GradientCheck",
    "Layer",
    "Network",
    "Sequential",
    "Snapshot",
    "Solver",
    "Step",
    "Steps",
    "Trained",
    "View",
    "accuracy",
    "activation_layer",
    "adam",
    "avg_pool",
    "avg_pool_vjp",
    "batch_norm",
    "batch_norm_statistics",
    "batch_norm_steps",
    "batch_norm_vjp",
    "batch_renorm",
    "batch_renorm_vjp",
    "batch_view",
    "by_set",
    "channel_rms_norm",
    "channel_rms_norm_steps",
    "channel_rms_norm_vjp",
    "check_gradient",
    "conv",
    "conv_layer",
    "conv_vjp",
    "dropout",
    "dropout_layers",
    "dropout_seed",
    "dropout_vjp",
    "flatten_layer",
    "ghost_batch_norm",
    "ghost_batch_norm_statistics",
    "ghost_batch_norm_vjp",
    "ghost_batches",
    "global_avg_pool",
    "global_avg_pool_layer",
    "global_avg_pool_vjp",
    "group_norm",
    "group_norm_steps",
    "group_norm_vjp",
    "group_view",
    "hinge",
    "hinge_vjp",
    "init_parameters",
    "init_running",
    "instance_norm",
    "instance_norm_steps",
    "instance_norm_vjp",
    "instance_view",
    "layer_norm",
    "layer_norm_steps",
    "layer_norm_vjp",
    "layer_view",
    "leaky_relu",
    "leaky_relu_vjp",
    "linear",
    "linear_layer",
    "linear_vjp",
    "loss_and_gradients",
    "max_pool",
    "max_pool_layer",
    "max_pool_vjp",
    "mean_squared_error",
    "mean_squared_error_vjp",
    "merge_moments",
    "momentum",
    "norm_layers",
    "numeric_gradient",
    "relative_error",
    "relu",
    "relu_vjp",
    "rms_norm",
    "rms_norm_steps",
    "rms_norm_vjp",
    "rmsprop",
    "scores",
    "sgd",
    "shuffled_batches",
    "sigmoid",
    "sigmoid_vjp",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
    "tanh",
    "tanh_vjp",
    "train",
    "training_step",
    "update_running",
]
