"""How a record of what people see is taken of a quota and its Job, and how it is written as Markdown."""

import re
from datetime import datetime, timezone
from typing import NamedTuple

import product
from cluster import CONTROLLERS_REASONS, get, items, kubectl

# Seconds after the fault.
MOMENTS = (5, 15, 60)
# What a condition says when all is well.
WELL = {
    "Accepted": "True", "Programmed": "True", "Ready": "True", "LimiterAvailable": "True", "ProviderAvailable": "True",
    "LimitsInSync": "True", "UsageKnown": "True", "Throttled": "False",
}
# Of `kubectl get aq`.
COLUMNS = ("STATUS", "USED", "WAITING")


class Metric(NamedTuple):
    """A figure of a component."""

    component: str
    name: str
    # Beside the quota.
    labels: tuple = ()
    of_quota: bool = True

    def __str__(self):
        labels = ",".join(self.labels)
        return f"`{self.component}_{self.name}{f'{{{labels}}}' if labels else ''}`"


class Look(NamedTuple):
    """What a person finds at a moment."""

    # The columns of `kubectl get aq` by their title.
    columns: dict
    # The first line that `kubectl describe aq` shows of the status.
    brief: str
    # The conditions that are not as they are when all is well.
    conditions: list
    # What each metric says: a figure, or why there is none.
    figures: list


def look(namespace, quota, job, metrics):
    pages = {component: metrics_of(component, job) for component in {metric.component for metric in metrics}}
    figures = [figure(pages[metric.component], metric, f"{namespace}/{quota}") for metric in metrics]
    found = get("apiquota", quota, "--namespace", namespace)
    if not found:
        return Look({}, "not found", [], figures)
    return Look(columns(namespace, quota), brief(namespace, quota), conditions(found), figures)


def columns(namespace, quota):
    """The row of `kubectl get aq`, by the places of the titles: a column may have spaces or be empty."""
    titles, row = kubectl("get", "aq", quota, "--namespace", namespace).splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", titles)]
    ends = [*starts[1:], None]
    return {titles[start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends)}


def brief(namespace, quota):
    lines = kubectl("describe", "aq", quota, "--namespace", namespace).splitlines()
    return next((line.split("Brief:", 1)[1].strip() for line in lines if line.strip().startswith("Brief:")), "")


def conditions(found):
    all_of_them = found.get("status", {}).get("conditions", [])
    turned = (each for each in all_of_them if WELL.get(each["type"], each["status"]) != each["status"])
    return [f"{each['type']}={each['status']} {each['reason']}" for each in turned]


def metrics_of(component, job):
    """The pages of a component; of the proxies, those of the Job's pods."""
    return product.metrics_of(component) if component != "proxy" else product.metrics_of_pods(job.list(), 15820)


def figure(pages, metric, quota):
    """The sum of the series that have the metric's labels, over the component's pods: one of the operators leads."""
    if not pages:
        return "no answer"
    labels = (*metric.labels, *([f'quota="{quota}"'] if metric.of_quota else []))
    start = re.compile(rf"quotakeeper_{metric.component}_{metric.name}[ {{]")
    lines = [line for page in pages for line in page.splitlines() if start.match(line)]
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if all(label in line for label in labels)]
    return f"{sum(values):.12g}" if values else "–"


def events(namespace, kind, name, since):
    """What was told of an object after a moment: seconds, type, reason and text, without what Kubernetes itself tells."""
    told = []
    for event in items("events.events.k8s.io", "--namespace", namespace):
        of = event["regarding"]
        if (of["kind"], of["name"]) != (kind, name) or event["reason"] in CONTROLLERS_REASONS:
            continue
        at = event.get("eventTime") or event.get("deprecatedFirstTimestamp")
        seconds = (datetime.fromisoformat(at) - since).total_seconds()
        if seconds >= -1:
            told.append((max(0, round(seconds)), event["type"], event["reason"], event.get("note", "")))
    return sorted(told)


def now():
    return datetime.now(timezone.utc)


class Told(NamedTuple):
    """The events of an object."""

    of: str
    events: list


class Record(NamedTuple):
    """What was seen of a fault."""

    title: str
    # What was done.
    scene: str
    # By the seconds after the fault; 0: just before it.
    looks: dict
    metrics: list
    # The Job's come first.
    told: list
    # Counted by the provider within the minute.
    answered: int
    over: int


def row(*cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def table(titles, rows):
    yield row(*titles)
    yield row(*["---"] * len(titles))
    yield from (row(*cells) for cells in rows)


def summary(records):
    """A row for each fault: the words of its states, what the Job was told first, and what came of its calls."""
    titles = ("fault", *(f"STATUS after {moment} s" for moment in MOMENTS), "first event at the Job", "answered", "over")
    return table(titles, (summary_of(record) for record in records))


def summary_of(record):
    anchor = re.sub(r"[^a-z0-9 -]", "", record.title.lower()).replace(" ", "-")
    words = [record.looks[moment].columns.get("STATUS", "").split(" ")[0] for moment in MOMENTS]
    states = (f"`{word}`" if word else "–" for word in words)
    first = next((f"`{reason}`, {seconds} s" for seconds, _, reason, _ in record.told[0].events if reason != "Injected"), "–")
    return f"[{record.title}](#{anchor})", *states, first, record.answered, record.over


def section(record):
    """All that was seen of one fault."""
    moments = ["before" if not moment else f"{moment} s" for moment in record.looks]
    columns = ([title, *(f"`{seen.columns[title]}`" if title in seen.columns else "–" for seen in record.looks.values())] for title in COLUMNS)
    metrics = enumerate(record.metrics)
    figures = ([metric, *(seen.figures[index] for seen in record.looks.values())] for index, metric in metrics)
    yield from ("", f"## {record.title}", "", record.scene, "")
    yield from table(["", *moments], [*columns, *figures])
    yield from changes("`kubectl describe aq` begins with:", {moment: seen.brief for moment, seen in record.looks.items() if moment})
    turned = {moment: ", ".join(f"`{each}`" for each in seen.conditions) for moment, seen in record.looks.items() if moment}
    yield from changes("Conditions that are not as usual:", {moment: text for moment, text in turned.items() if text})
    yield from told_of(record.told)


def changes(title, texts):
    """What was read at each moment, where it differs from the moment before by more than figures."""
    seen = None
    if texts:
        yield from ("", title, "")
    for moment, text in texts.items():
        without_figures = re.sub(r"\d+", "", text)
        if without_figures != seen:
            yield f"- {moment} s: {text}"
        seen = without_figures


def told_of(told):
    """The events of each object; those of the quota are not repeated where they are the Job's too."""
    of_job = {(reason, note) for _, _, reason, note in told[0].events}
    for each in told:
        new = [event for event in each.events if each is told[0] or event[2:] not in of_job]
        also = "nothing more" if each.events else "none"
        yield from ("", f"Events of {each.of}: {'' if new else also}".rstrip())
        if new:
            yield ""
        yield from (f"- {seconds} s, {kind} `{reason}`: {note}" for seconds, kind, reason, note in new)
