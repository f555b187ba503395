"""The table of axis rules does not depend on its order, and knows only the mesh's axes."""

from audiolm_jax.parallel.rules import LOGICAL_AXIS_RULES, MESH_AXES

PARAMETER_AXES = {"vocab", "embed", "heads", "head_dim", "mlp", "layers", "conv_in", "conv_out"}


def test_every_name_stands_once():
    names = [name for name, _ in LOGICAL_AXIS_RULES]
    assert len(names) == len(set(names))


def test_parameters_activations_and_caches_have_names_of_their_own():
    names = {name for name, _ in LOGICAL_AXIS_RULES}
    others = names - PARAMETER_AXES
    assert PARAMETER_AXES <= names
    assert all(name.startswith(("act_", "cache_")) for name in others)


def test_targets_are_axes_of_the_mesh():
    for _, target in LOGICAL_AXIS_RULES:
        for axis in target if isinstance(target, tuple) else (target,):
            assert axis is None or axis in MESH_AXES
