"""The training loop."""

from __future__ import annotations

import time
from math import fsum
from pathlib import Path

from bnn.energy import EnergyMeter, node_meter, total_energy
from bnn.engine import Engine
from bnn.heartbeat import Heartbeat
from bnn.metrics import STEADY, WARMUP
from bnn.neighbours import gather_neighbours
from bnn.records import Summary
from bnn.settings import TrainSettings
from bnn.training.checkpoint import checkpoint_due, save_checkpoint
from bnn.training.evaluation import average_statistics, evaluate
from bnn.training.faults import faults_of
from bnn.training.finish import finish
from bnn.training.phases import Phases
from bnn.training.recorder import StepClock
from bnn.training.run import Run
from bnn.training.start import start_run


def train(
    settings: TrainSettings, out: Path, engine: Engine, process_start: float, heartbeat: Heartbeat | None = None
) -> Summary | None:
    """Train and leave the records in `out`; returns the summary on rank 0 and None elsewhere.

    The run goes on from the latest checkpoint of the same settings, if there is one. A non-finite loss ends the run at
    its step on all ranks; the summary's verdict is then INVALID. `process_start` is in seconds since 1970. Raises
    UserError for what a user can mend.
    """
    phases = Phases()
    run = start_run(settings, out, engine, heartbeat)
    trainer, recorder, heartbeat = run.trainer, run.recorder, run.heartbeat
    meter = node_meter(engine, settings.device)
    clock = StepClock(settings.device, heartbeat)
    faults = faults_of(settings, engine.rank, engine.size, clock)
    lap = clock.lap if faults is None else faults.lap
    heartbeat.begin(run.folder.attempt, run.first_step, run.steps, settings.batch_size)
    meter.start()
    training_start = time.time()

    for step in range(run.first_step, run.steps):
        if step - run.first_step == settings.warmup_steps:
            clock.stop()
            recorder.flush()  # a GPU may still have steps of the warm-up in its queue
            meter.resume()
        phase = WARMUP if step - run.first_step < settings.warmup_steps else STEADY
        if phases.now != phase:
            phases.enter(phase)
        clock.start()
        if faults is not None:
            faults.at_input(step)
        images, labels = trainer.batch(run.dataset.train, step)
        lap()
        beta, metrics = trainer.step(step, images, labels, lap)
        recorder.add(step, trainer.schedule.epoch(step), beta, clock.timing, metrics)
        heartbeat.advance(step + 1)
        if step + 1 < run.steps and (trainer.schedule.ends_epoch(step) or evaluation_due(run, step + 1)):
            if accurate_enough(run, step, meter, clock):
                break
            between_steps(run, step + 1, meter, clock, phases)
        if recorder.failed_step is not None:
            break

    clock.stop()
    recorder.flush()
    meter.pause()
    if recorder.failed_step is None:
        phases.enter("evaluation")
        average_statistics(run, recorder.done)
        if settings.evaluate != "none":
            run.evaluations.append(evaluate(run, recorder.done))
    meter.stop()
    phases.stop()
    heartbeat.move("exchange")
    energy = total_energy(engine, meter)
    return finish(run, process_start, training_start, energy, gather_neighbours(engine, phases.neighbours))


def accurate_enough(run: Run, step: int, meter: EnergyMeter, clock: StepClock) -> bool:
    """Whether training ends with this step, an epoch's last, as `until_accuracy` asks; every rank gets the same answer.

    The ranks ask each other once per epoch, between two steps.
    """
    wanted, engine = run.settings.until_accuracy, run.trainer.engine
    if wanted is None or not run.trainer.schedule.ends_epoch(step):
        return False
    clock.stop()
    run.recorder.flush()
    if run.recorder.failed_step is not None:  # known to all ranks; the loop ends the run
        return False
    with meter.paused():
        run.heartbeat.move("exchange")
        accuracies = engine.gather(run.recorder.accuracy_running, f"accuracy.{step}")
    accuracy = fsum(accuracies) / len(accuracies)
    if accuracy >= wanted and engine.rank == 0:
        print(f"training ends after step {step + 1} of {run.steps}: accuracy {accuracy:.4g}", flush=True)
    return accuracy >= wanted


def between_steps(run: Run, done: int, meter: EnergyMeter, clock: StepClock, phases: Phases) -> None:
    """After `done` steps: held-out metrics and a checkpoint, where they are due.

    The last step ends before that, so that neither is in any step.
    """
    evaluating = evaluation_due(run, done)
    saving = checkpoint_due(run.trainer.schedule, done, run.settings.checkpoint_epochs)
    if not (evaluating or saving):
        return
    clock.stop()
    run.recorder.flush()
    if run.recorder.failed_step is not None:  # read late: nothing is measured or kept of a state that is spoilt
        return
    with meter.paused():
        if evaluating:
            phases.enter("evaluation")
            average_statistics(run, done)
            run.evaluations.append(evaluate(run, done))
        if saving:
            if run.trainer.engine.rank == 0:
                run.folder.keep_evaluations(run.evaluations)
            phases.enter("checkpoint")
            save_checkpoint(run, done)


def evaluation_due(run: Run, done: int) -> bool:
    """Whether held-out metrics are asked for after `done` steps, before the last."""
    settings, schedule = run.settings, run.trainer.schedule
    by_step = settings.evaluate_steps is not None and done % settings.evaluate_steps == 0
    return by_step or (settings.evaluate == "epoch" and schedule.ends_epoch(done - 1))
