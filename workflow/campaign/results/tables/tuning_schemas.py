"""The table of settings that were tried: throughput of each combination, against a stated one and against the best."""

from __future__ import annotations

from bnn.records.columns import Column, TableSchema
from campaign.results.tables.identity import POINT

MOST = 3  # settings that a study varies at once
BEST, ALIKE, SLOWER = "best", "not told apart from the best", "slower"

TUNING = TableSchema(
    name="tuning",
    version=1,
    columns=(
        *POINT,
        Column("study", "string", "", "entry of the campaign's section tuning"),
        Column("implementation", "string", "", "what was trained"),
        Column("ranks", "int64", "ranks", "number of ranks"),
        *(
            column
            for place in range(1, MOST + 1)
            for column in (
                Column(f"setting_{place}", "string", "", "a setting that is varied; empty: none"),
                Column(f"value_{place}", "string", "", "its value here"),
            )
        ),
        Column("repeats", "int64", "", "repeats that count"),
        Column("repeats_planned", "int64", "", "repeats that the campaign asks for"),
        Column("verdict", "string", "", "OK, WARN (some counted repeat is), or INVALID (none counts)"),
        Column("throughput", "float64", "samples/s", "steady throughput, centre over repeats"),
        Column("throughput_low", "float64", "samples/s", "lower end of its 95% interval; empty: it has none"),
        Column("throughput_high", "float64", "samples/s", "upper end of its 95% interval; empty: it has none"),
        Column("against", "string", "", "variant with the values that the study sets others against"),
        Column("gain", "float64", "", "throughput / that of `against`, repeats as blocks; empty: no repeat has both"),
        Column("gain_low", "float64", "", "lower end; with all others of the study 95% hold at once; empty: none"),
        Column("gain_high", "float64", "", "upper end; with all others of the study 95% hold at once; empty: none"),
        Column("of_best", "float64", "", "throughput / that of the best, repeats as blocks; empty: no repeat has both"),
        Column("of_best_low", "float64", "", "lower end; 95% of all at once; empty: none"),
        Column("of_best_high", "float64", "", "upper end; 95% of all at once; empty: none"),
        Column("standing", "string", "", f"{BEST}; {ALIKE}; {SLOWER}; empty: it cannot be said"),
        Column("reason", "string", "", "why there is no value or no interval, separated by '; '"),
    ),
)
TUNING_TABLES: dict[str, TableSchema] = {TUNING.name: TUNING}
