"""A Jukebox model in Python: `jukebox_core.api.model.Model`, and access to its networks."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, cast

import numpy as np

from jukebox_core.alignment.times import Alignment
from jukebox_core.api.model import Model
from jukebox_core.api.request import make_request
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.alignment.heads import alignment_head
from jukebox_core.models.resolve import obtain_vocabularies

if TYPE_CHECKING:
    from jukebox_core.api.music import Audio, Codes
    from jukebox_core.families.jukebox.conditioning.song import Song
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
    from jukebox_core.families.jukebox.sampling.prior_model import PriorModel
    from jukebox_core.protocols import Aligner, AlignmentFamily


class Jukebox(Model):
    """A VQ-VAE and its priors, each loaded when it is first needed; one prior is in memory at a time."""

    @property
    def config(self) -> JukeboxConfig:
        """The model's hyperparameters."""
        return cast("JukeboxConfig", self._settings.config)

    @property
    def vqvae(self) -> VQVAE:
        """The VQ-VAE, loaded."""
        return cast("VQVAECodec", self._open_codec()).vqvae

    def prior(self, level: int) -> Prior:
        """Returns the prior of `level`, loaded; the one of another level is freed first."""
        return cast("PriorModel", self._open_network(self._family.role_of(level))).prior

    def align(
        self,
        audio: Audio | None = None,
        *,
        codes: Codes | None = None,
        song: Song,
        layer: int | None = None,
        head: int | None = None,
        hop: float = 0.125,
        merge: str = "mean",
    ) -> Alignment:
        """Returns lyrics in time with music, of a recording or of the codes of the top level.

        Args:
            audio: mono sound, float32 [time] at the model's rate; cut to whole codes.
            codes: instead of audio, int [tokens].
            song: artist, genre, lyrics and the position of the music in its song, which ends with the music unless
                `total_seconds` says otherwise.
            layer: whose attention is read, counted from 0; None: as the model's settings say.
            head: of that layer.
            hop: start of a window after the one before, as a share of the context.
            merge: ``mean`` over the windows that cover a code and a character, or ``first``, as upstream.

        Raises:
            ConfigError: the song has no lyrics, the model knows none, or the head does not attend to them.
            LabelError: the model does not know a name, or no character of the lyrics.
        """
        config, family = self.config, cast("AlignmentFamily", self._family)
        family.aligning_head(config, layer, head)
        if (audio is None) == (codes is None):
            raise ConfigError("give either audio or codes")
        top = config.top
        tokens = np.asarray(codes) if audio is None else self.encode(audio, [top])[top]
        if tokens.ndim != 1 or not len(tokens):
            raise ConfigError(f"the music has shape {tokens.shape}; give one recording, [time], or codes, [tokens]")
        request = make_request(
            self._settings,
            self._hardware.dtype,
            songs=song,
            seconds=config.seconds(top, len(tokens)),
            n_samples=1,
            seed=None,
            sampling=None,
            whole_song=True,
        )
        files = obtain_vocabularies(self._settings.files, self._weights)
        (conditioning,) = self._family.condition(request, {role: file.path for role, file in files.items()})
        text = family.aligned_text(config, conditioning)
        if not text.strip():
            raise ConfigError("the song has no lyrics to align; give them in song.lyrics or song.lyrics_file")
        aligner = self._open_aligner(layer, head)
        return Alignment(
            text=text,
            weights=aligner.align(tokens, conditioning, hop=hop, merge=merge),
            row_seconds=config.seconds(top, 1),
            offset_seconds=family.aligned_position(conditioning)[1] / config.sample_rate,
            song_seconds=family.aligned_position(conditioning)[0] / config.sample_rate,
        )

    def _open_aligner(self, layer: int | None, head: int | None) -> Aligner:
        """Returns the layers up to a head of the top prior, loaded; the network that was in memory is freed first."""
        config, role = self.config, self._family.role_of(self.config.top)
        name = f"alignment by {alignment_head(config, layer, head)}"
        if self._network is None or self._network[0] != name:
            self._network = None
            gc.collect()
            file, family = self._weights_of(role), cast("AlignmentFamily", self._family)
            hardware, library = self._hardware, self._weights.prepared_home
            opened = family.open_aligner(config, file.path, file.identity, hardware, library, layer=layer, head=head)
            self._network = (name, opened)
        aligner: Aligner = self._network[1]
        return aligner
