"""The stages of training, in the same way as `pipelines.orchestration.stage_calls`; separate, as they import more."""

from __future__ import annotations

from pipelines.orchestration.stage_calls import Stages
from stages.training import album, dataset, model_folder, new_labels, readiness, train


class TrainingStages(Stages):
    """The stages that a training calls: Prefect tasks in rank 0, plain functions in the other ranks."""

    write_album = staticmethod(album.write_album)
    check_training_songs = staticmethod(dataset.check_training_songs)
    add_labels = staticmethod(new_labels.add_labels)
    check_training = staticmethod(readiness.check_training)
    check_codes = staticmethod(readiness.check_codes)
    train_part = staticmethod(train.train_part)
    write_model = staticmethod(model_folder.write_model)


PLAIN = TrainingStages()
