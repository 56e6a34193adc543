//! What a person reads of a quota agrees, whatever comes together: STATUS, conditions, Events and warnings.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::sync::Arc;

use quotakeeper_engine::config::Mode;
use quotakeeper_engine::event::Scope;
use quotakeeper_engine::{LimitStatus, PauseStatus};

use super::tests::{Scene, at, report, spent};
use super::*;
use crate::admission_warning::warning;
use crate::conditions::TRUE;
use crate::fixtures::pause;
use crate::limiter_view::LIMITER_TIMEOUT;
use crate::reconcile::{Reason, Verdict};
use crate::status::status;

/// One value of each dimension, as digits of a number.
const SIZES: [usize; 7] = [3, 2, 5, 2, 2, 5, 3];

/// Reasons of which one at a time stands.
const KINDS: [&[EventReason]; 2] = [
    &[EventReason::NotWritten, EventReason::Refused],
    &[
        EventReason::PausedByHand,
        EventReason::ProviderPaused,
        EventReason::ProviderOverloaded,
        EventReason::ProviderStopped,
    ],
];

/// Everything that may hold at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct World {
    /// The newest spec: accepted, refused with an earlier generation in force, refused.
    spec: usize,
    unwritten: bool,
    /// Reports, has nothing in force, can't apply it, is lost, is being replaced.
    limiter: usize,
    gate_open: bool,
    disabled: bool,
    /// None, of all calls, overloaded, stopped, of one model.
    pause: usize,
    /// Free, used up, closed.
    budget: usize,
}

const WELL: World =
    World { spec: 0, unwritten: false, limiter: 0, gate_open: false, disabled: false, pause: 0, budget: 0 };

impl World {
    fn number(mut number: usize) -> World {
        let mut digit = |size| {
            let digit = number % size;
            number /= size;
            digit
        };
        let [spec, unwritten, limiter, gate_open, disabled, pause, budget] = SIZES.map(&mut digit);
        let (unwritten, gate_open, disabled) = (unwritten == 1, gate_open == 1, disabled == 1);
        World { spec, unwritten, limiter, gate_open, disabled, pause, budget }
    }

    fn all() -> impl Iterator<Item = World> {
        (0..SIZES.iter().product()).map(World::number)
    }

    fn report(&self) -> AccountReport {
        let mut report = report();
        report.mode = if self.disabled { Mode::Disabled } else { Mode::Enforce };
        match self.limiter {
            1 => report.generation = None,
            2 => (report.generation, report.problem) = (None, Some("it has 3 limits too many".to_owned())),
            _ => {}
        }
        let of_all = pause(Scope::account(), 300_000, "429");
        report.status.pauses.extend(match self.pause {
            1 => Some(of_all),
            2 => Some(PauseStatus { overloaded: true, ..of_all }),
            3 => Some(PauseStatus { stopped: true, ..of_all }),
            4 => Some(pause(Scope::model("haiku"), 300_000, "429")),
            _ => None,
        });
        report.status.limits.extend(match self.budget {
            1 => Some(spent()),
            2 => Some(LimitStatus { assumed: 625_000, ..spent() }),
            _ => None,
        });
        report
    }
}

/// A quota, its status in the cluster, and what its workloads have been told.
struct Story {
    scene: Scene,
    accepted: Verdict,
    events: EventState,
    second: i64,
    /// Warnings that are not over, at the workloads.
    open: BTreeMap<EventReason, String>,
}

impl Story {
    fn new() -> Story {
        let scene = Scene::of_tier("pro");
        let accepted = scene.verdict.clone();
        Story { scene, accepted, events: EventState::default(), second: 0, open: BTreeMap::new() }
    }

    fn subject<'s>(&'s self, world: &World, report: &'s AccountReport) -> Subject<'s> {
        let subject = self.scene.subject(Some(report), self.second);
        let (since, silence) = (at(0), LIMITER_TIMEOUT);
        let gate_open_until = world.gate_open.then(|| at(100_000));
        let limiter = match world.limiter {
            3 => Limiter::Lost { since, silence, replaced: false },
            4 => Limiter::Lost { since, silence, replaced: true },
            _ => Limiter::Connected { account: Some(report), active: None, gate_open_until },
        };
        Subject { limiter, ..subject }
    }

    /// A round of the writer of statuses, and one of Events.
    fn round(&mut self, world: &World) {
        self.second += 2;
        let message = "spec.provider.tier: tier `gold` is unknown.".to_owned();
        let in_force = self.accepted.account().cloned().filter(|_| world.spec == 1);
        self.scene.verdict = match world.spec {
            0 => self.accepted.clone(),
            _ => Verdict::Refused { reason: Reason::TierNotFound, message, in_force },
        };
        self.scene.unwritten = world.unwritten.then_some("configmaps is forbidden");
        let report = world.report();
        let status = status(&self.subject(world, &report));
        self.scene.view.status = Arc::new(status);
        let mut state = std::mem::take(&mut self.events);
        let planned = state.next("gtm/crm", &self.subject(world, &report));
        self.events = state;
        let told = !self.open.is_empty();
        for PlannedEvent { target, reason, note } in planned {
            match (target, reason) {
                (Target::Consumers, EventReason::Resumed) => {
                    assert!(told, "{note}: of nothing that was told; {world:?}");
                    self.open = self.standing();
                }
                (Target::Consumers, EventReason::GateClosed) => {
                    assert!(told, "{note}: of nothing that was told; {world:?}");
                    self.open.remove(&EventReason::GateOpen);
                }
                (Target::Consumers, reason) => {
                    // The newest of a kind counts.
                    for kind in KINDS.iter().filter(|kind| kind.contains(&reason)) {
                        self.open.retain(|other, _| !kind.contains(other));
                    }
                    self.open.insert(reason, note);
                }
                _ => {}
            }
        }
    }

    fn standing(&self) -> BTreeMap<EventReason, String> {
        self.events.standing().map(|event| (event.reason, event.note)).collect()
    }

    /// Until nothing changes any more: budgets hover.
    fn settle(&mut self, world: &World) {
        for round in 0..4 {
            self.round(world);
            if round == 2 {
                self.second += HOVERING_SECONDS;
            }
        }
    }

    fn look(&self, world: &World) {
        let status = &self.scene.view.status;
        let summary = status.summary.clone().unwrap();
        let shown = summary.status.unwrap();
        let word = shown.split(' ').next().unwrap();
        let what = format!("{shown}: {world:?}");
        let ready = find(&status.conditions, types::READY).unwrap();
        let throttled = find(&status.conditions, types::THROTTLED).unwrap();

        const NOT_READY: [&str; 6] =
            ["TierNotFound", "LimiterUnavailable", "NotWritten", "Refused", "Programming", "GateOpen"];
        assert_eq!(ready.status != TRUE, NOT_READY.contains(&word), "Ready={} {what}", ready.status);
        if ready.status == TRUE && throttled.status == TRUE {
            assert_eq!(throttled.reason, word, "{what}");
        }
        assert!(status.brief.as_ref().unwrap().starts_with(&shown), "{what}");

        // A Job that is created now is told the same as those that are there.
        assert_eq!(self.standing(), self.open, "{what}");
        let calls_wait = self.open.keys().any(|reason| *reason != EventReason::GateOpen);
        let told: Vec<&str> = self.open.keys().map(|reason| reason.word()).collect();
        match word {
            "ProviderPaused" | "ProviderOverloaded" | "ProviderStopped" | "BudgetExhausted"
            | "UsageUnknown" => assert!(told.contains(&word), "{told:?}, {what}"),
            "LimiterUnavailable" if world.limiter == 3 => assert!(told.contains(&word), "{told:?}, {what}"),
            "TierNotFound" if world.spec == 2 => assert!(told.contains(&word), "{told:?}, {what}"),
            "NotWritten" | "Refused" if matches!(world.limiter, 1 | 2) => {
                assert!(told.contains(&word), "{told:?}, {what}");
            }
            "GateOpen" if world.pause != 4 => assert_eq!(told, ["GateOpen"], "{what}"),
            "Ready" | "Queueing" | "Disabled" if world.pause != 4 => {
                assert!(told.is_empty(), "{told:?}, {what}");
            }
            _ => {}
        }
        // Who creates a pod is warned where its calls won't go.
        let view = &self.scene.view;
        let warned = warning("gtm/crm", view, at(self.second));
        let of_one_model = world.pause == 4 && told.len() == 1;
        let replaced = world.limiter == 4;
        if calls_wait && !of_one_model && world.spec != 1 && !replaced {
            assert!(warned.is_some(), "told {told:?}, and no warning; {what}");
        }
        if matches!(word, "Ready" | "Queueing" | "Disabled" | "GateOpen") {
            assert_eq!(warned, None, "{what}");
        }
    }
}

#[test]
fn whatever_comes_together_is_told_the_same_way_everywhere() {
    for world in World::all() {
        let mut story = Story::new();
        story.settle(&WELL);
        story.look(&WELL);
        story.settle(&world);
        story.look(&world);
        story.settle(&WELL);
        assert!(story.open.is_empty(), "{:?} after {world:?}", story.open);
        story.look(&WELL);
    }
}

#[test]
fn whatever_follows_each_other_is_told_the_same_way_everywhere() {
    let all = SIZES.iter().product::<usize>();
    let mut chance: usize = 7;
    let mut story = Story::new();
    for _ in 0..3000 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let world = World::number((chance >> 33) % all);
        story.settle(&world);
        story.look(&world);
    }
}
