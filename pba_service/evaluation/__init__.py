"""What PBA would have said of measurements, and how right it would have been: replayed through the code that serves.

replayed = replay(links, model, base_ms=60_000)
scored = score_all(replayed, collections, part=0.2)
print(text_table(summarise(scored)))
"""

from pba_service.evaluation.replay import Replayed, replay
from pba_service.evaluation.scores import LinkScores, MetricScores, score_all
from pba_service.evaluation.summary import Summary, summarise
from pba_service.evaluation.text import text_table

__all__ = [
    "LinkScores",
    "MetricScores",
    "Replayed",
    "Summary",
    "replay",
    "score_all",
    "summarise",
    "text_table",
]
