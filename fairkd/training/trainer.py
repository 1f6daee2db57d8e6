"""What `transformers.Trainer` lacks: a loss with the teacher's stored logits and one weight an instance."""

from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from fairkd.experiment import Experiment
from fairkd.training.sampler import UniformGroupSampler
from fairkd.weighting import Adjustment, Debiased, Distilled, Weighted
from fairkd.weighting.group_weights import GroupWeights
from fairkd.weighting.loss import distillation_terms, weighted_losses
from fairkd.weighting.method import Method


def training_arguments(experiment: Experiment, folder: Path, role: str) -> TrainingArguments:
    """Section 1 of the method: AdamW, linear schedule with warm-up; checkpoints at every epoch, for resuming."""
    teacher = role == "teacher"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=experiment.teacher_epochs if teacher else experiment.student_epochs,
        learning_rate=experiment.teacher_learning_rate if teacher else experiment.learning_rate,
        seed=experiment.teacher_seed if teacher else experiment.seed,
        per_device_train_batch_size=experiment.batch_size,
        per_device_eval_batch_size=128,
        lr_scheduler_type="linear",
        warmup_steps=experiment.warmup_ratio,
        weight_decay=experiment.teacher_weight_decay if teacher else experiment.weight_decay,
        bf16=experiment.bf16,
        use_cpu=not torch.accelerator.is_available(),  # said aloud, or bf16 is refused there
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"non_blocking": torch.cuda.is_available()},
        logging_nan_inf_filter=False,  # it asks the device for the loss at every step, and hides that one diverged
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,  # one to fall back on, where a killed process left the newer one half written
        disable_tqdm=True,  # callbacks of our own say how far it is
        report_to=experiment.report_to,
        run_name=folder.name.removesuffix(".partial"),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else Trainer takes a batch of this size for each GPU, by DataParallel
    return arguments


class DistillationTrainer(Trainer):
    """Trains on `distillation_loss` with stored teacher logits and one weight an instance.

    Attributes:
        instance_weights: (N,) weights in force, on the model's device; `online` takes their place if it is set.
        adjustment: what a biased reader changes in the loss of the N instances, there too; None as yet, or for good.
        diverged_at: (), on the device, the first step whose loss was not finite; 0 as long as there is none.
    """

    def __init__(self, *args, method: Method | None = None, teacher_logits: Tensor | None = None, **kwargs):
        """Args as of `Trainer`.

        Args:
            method: whose loss is trained on; None is cross-entropy.
            teacher_logits: (N, C), row for row those of the training data; None trains on the labels alone.
        """
        super().__init__(*args, **kwargs)
        self.teacher_logits = None if teacher_logits is None else teacher_logits.to(self.args.device)
        self.instance_weights = torch.ones(len(self.train_dataset), device=self.args.device)
        self.diverged_at = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.online: GroupWeights | None = None
        self.adjustment: Adjustment | None = None
        self.own_loss = isinstance(method, Weighted | Debiased)
        self.temperature = method.temperature if isinstance(method, Distilled) else 1.0
        self.reweight = method.reweight if isinstance(method, Weighted) else "both"
        # Without a teacher all of the loss is the labels' term.
        self.kd_weight = method.kd_weight if isinstance(method, Distilled) and teacher_logits is not None else 0.0

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """All rows once, batches of similar length; with online group weights, rows of uniform groups."""
        lengths = self.train_dataset["length"][:]
        if self.online:
            return UniformGroupSampler(self.online.group_of.cpu(), lengths, self.args.train_batch_size)
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.lengths = lengths  # it would sort by a column on disk, a tenth of a millisecond a row
        return sampler

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        """In the order of the rows, which `EpochResults.metrics` relies on; group_by_length would shuffle them."""
        return SequentialSampler(eval_dataset)

    def training_step(self, *args, **kwargs) -> Tensor:
        """As `Trainer` has it; notes in `diverged_at` if the loss is not finite, without asking the device."""
        loss = super().training_step(*args, **kwargs)
        first = (self.diverged_at == 0) & ~loss.isfinite()
        self.diverged_at = torch.where(first, self.state.global_step + 1, self.diverged_at)
        return loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The batch's weighted distillation loss; plain cross-entropy in evaluation, and of the labels alone."""
        index = inputs.pop("index")
        if not model.training or (self.teacher_logits is None and not self.own_loss):
            return super().compute_loss(model, inputs, return_outputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        taught = outputs.logits if self.teacher_logits is None else self.teacher_logits[index]
        adjusted = self.adjustment and Adjustment(*(None if part is None else part[index] for part in self.adjustment))
        terms = distillation_terms(outputs.logits, taught, labels, self.temperature, adjusted)
        if self.online:
            weights = self.online.step(weighted_losses(*terms, 1.0, self.kd_weight, self.reweight), index)
        else:
            weights = self.instance_weights[index]
        loss = weighted_losses(*terms, weights, self.kd_weight, self.reweight).mean()
        return (loss, outputs) if return_outputs else loss
