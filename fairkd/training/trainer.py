"""What `transformers.Trainer` lacks: a loss with the teacher's stored logits and one weight an instance."""

import logging
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_pt_utils import LengthGroupedSampler

from fairkd import ranks
from fairkd.experiment import Experiment
from fairkd.training.sampler import Agreed, UniformGroupSampler
from fairkd.weighting import Adjustment, Debiased, Distilled, Weighted
from fairkd.weighting.group_weights import GroupWeights
from fairkd.weighting.loss import distillation_terms, weighted_losses
from fairkd.weighting.method import Method

log = logging.getLogger("fairkd")


def training_arguments(experiment: Experiment, folder: Path, role: str) -> TrainingArguments:
    """AdamW, linear schedule with warm-up; checkpoints at every epoch, for resuming.

    A batch is shared by the processes that train together; one process uses one GPU, however many there are.
    """
    teacher = role == "teacher"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=experiment.teacher_epochs if teacher else experiment.student_epochs,
        learning_rate=experiment.teacher_learning_rate if teacher else experiment.learning_rate,
        seed=experiment.teacher_seed if teacher else experiment.seed,
        per_device_train_batch_size=experiment.batch_size // ranks.count(),
        per_device_eval_batch_size=128,
        lr_scheduler_type="linear",
        warmup_steps=experiment.warmup_ratio,
        weight_decay=experiment.teacher_weight_decay if teacher else experiment.weight_decay,
        max_grad_norm=experiment.max_grad_norm,
        bf16=experiment.bf16,
        use_cpu=not torch.accelerator.is_available(),  # said aloud, or bf16 is refused there
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # there are none in encoders of BERT's kind
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
        log.info("%d GPUs, of which one is used; `torchrun --nproc-per-node` uses more", arguments.n_gpu)
        arguments._n_gpu = 1  # else Trainer takes a batch of this size for each of them, by DataParallel
    return arguments


class DistillationTrainer(Trainer):
    """Trains on `distillation_loss` with stored teacher logits and one weight an instance.

    Attributes:
        instance_weights: (N,) weights in force, on the model's device; `online` takes their place if it is set.
        adjustment: what a biased reader changes in the loss of the N instances, there too; None before the
            reader is first fitted, and of a method without one.
        diverged_at: (), on the device, the first step whose loss was not finite here; 0 as long as there is none.
    """

    def __init__(self, *args, method: Method | None = None, teacher_logits: Tensor | None = None, **kwargs):
        """Args as of `Trainer`.

        Args:
            method: whose loss is trained on; None is cross-entropy.
            teacher_logits: (N, C), row for row those of the training data; None trains on the labels alone.
        """
        super().__init__(*args, **kwargs)
        if self.args.process_index:  # else every process would drop the same units of its rows
            set_seed(self.args.seed + self.args.process_index)
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
        batch_size = self.args.train_batch_size * self.args.world_size
        if self.online:
            sampler = UniformGroupSampler(self.online.group_of.cpu(), lengths, batch_size)
        else:
            sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.lengths = lengths  # it would sort by a column on disk, a tenth of a millisecond a row
            sampler.batch_size = batch_size
        return Agreed(sampler) if self.args.world_size > 1 else sampler

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        """In the order of the rows, which `EpochResults.metrics` relies on; group_by_length would shuffle them."""
        return SequentialSampler(eval_dataset)

    def training_step(self, *args, **kwargs) -> Tensor:
        """As `Trainer` has it; notes in `diverged_at` if the loss is not finite, without asking the device."""
        loss = super().training_step(*args, **kwargs)
        first = (self.diverged_at == 0) & ~loss.isfinite()
        self.diverged_at = torch.where(first, self.state.global_step + 1, self.diverged_at)
        return loss

    def first_diverged(self) -> int:
        """The first step whose loss was not finite in any process; 0 as long as there is none."""
        steps = self.accelerator.gather(self.diverged_at)
        return int(steps[steps > 0].min()) if steps.any() else 0

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        """As `Trainer` has it, but the loss of several processes, whose mean counts rows of a last batch twice."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.args.world_size > 1:
            logits, labels = torch.from_numpy(output.predictions), torch.from_numpy(output.label_ids)
            output.metrics[f"{metric_key_prefix}_loss"] = functional.cross_entropy(logits, labels).item()
        return output

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The batch's weighted distillation loss; plain cross-entropy in evaluation, and of the labels alone."""
        index = inputs.pop("index")
        plain = self.teacher_logits is None and not self.own_loss and self.args.world_size == 1
        if not model.training or plain:
            return super().compute_loss(model, inputs, return_outputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        taught = outputs.logits if self.teacher_logits is None else self.teacher_logits[index]
        adjusted = self.adjustment and Adjustment(*(None if part is None else part[index] for part in self.adjustment))
        terms = distillation_terms(outputs.logits, taught, labels, self.temperature, adjusted)
        if self.online:
            weights = self._group_weights(weighted_losses(*terms, 1.0, self.kd_weight, self.reweight), index)
        else:
            weights = self.instance_weights[index]
        loss = self._mean(weighted_losses(*terms, weights, self.kd_weight, self.reweight))
        return (loss, outputs) if return_outputs else loss

    def _group_weights(self, losses: Tensor, index: Tensor) -> Tensor:
        """(B,) weights of this process's part of a batch, after a step of the group weights on all of it."""
        if self.args.world_size == 1:
            return self.online.step(losses, index)
        real, own = self._real_rows(len(losses)), slice(self.args.process_index * len(losses), None)
        weights = torch.zeros(len(losses) * self.args.world_size, device=losses.device)
        everywhere = self.accelerator.gather((losses.detach(), index))
        weights[:real] = self.online.step(*(part[:real] for part in everywhere))
        return weights[own][: len(losses)]

    def _mean(self, losses: Tensor) -> Tensor:
        """() this process's part of the mean over the rows of a batch, such that the processes' mean is that of all."""
        if self.args.world_size == 1:
            return losses.mean()
        place = torch.arange(len(losses), device=losses.device) + self.args.process_index * len(losses)
        real = self._real_rows(len(losses))
        return (losses * (place < real)).sum() * self.args.world_size / real

    def _real_rows(self, rows: int) -> int:
        """How many rows a batch of all processes has; the last of an epoch is filled up with rows of the first."""
        state = self.accelerator.gradient_state
        last = state.end_of_dataloader and state.remainder > 0
        return state.remainder if last else rows * self.args.world_size
