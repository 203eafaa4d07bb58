import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from models import (
    Ensemble,
    EnsembleSettings,
    ModelSettings,
    build_model,
    halo,
    preset,
    tiles_exactly,
    total_stride,
)
from models.memory import pass_memory


@pytest.fixture(scope="module")
def settings():
    member = preset("unet-small", ndim=2, in_channels=2, out_channels=3)
    return EnsembleSettings.of(member, 3)


def test_logits_are_averaged_in_float32(settings):
    ensemble = build_model(settings).eval()
    x = torch.randn(2, 2, *(2 * s for s in settings.total_stride))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        members = [member(x) for member in ensemble.members]
        together = ensemble(x)
    assert members[0].dtype == torch.bfloat16 and together.dtype == torch.float32
    assert not torch.equal(members[0], members[1])
    torch.testing.assert_close(together, torch.stack([m.float() for m in members]).mean(0))


def test_it_tiles_as_its_members_do(settings):
    ensemble, member = build_model(settings), build_model(settings.member)
    assert isinstance(ensemble, Ensemble)
    assert total_stride(ensemble) == total_stride(member) == settings.total_stride
    assert halo(ensemble) == halo(member)
    assert tiles_exactly(ensemble.eval())
    swin = preset("swin-unetr", ndim=2, in_channels=1, out_channels=2)
    with torch.device("cpu"):
        assert not tiles_exactly(build_model(EnsembleSettings.of(swin, 2)))


def test_members_take_turns_in_memory(settings):
    one, three = (pass_memory(s, torch.float32) for s in (settings.member, settings))
    assert one.per_voxel < three.per_voxel < 1.2 * one.per_voxel


def test_settings_are_json_and_their_ends_agree(settings):
    adapter = TypeAdapter(ModelSettings)
    assert adapter.validate_json(adapter.dump_json(settings)) == settings
    with pytest.raises(ValidationError, match="out_channels is 4, but the members' is another"):
        EnsembleSettings.model_validate(settings.model_dump() | {"out_channels": 4})
    odd = [n + 1 for n in settings.total_stride]
    with pytest.raises(ValueError, match="multiple|fit"):
        build_model(settings)(torch.zeros(1, 2, *odd))
