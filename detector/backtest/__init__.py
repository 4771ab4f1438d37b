"""The backtest: a rules file judged over the log, by the engine that detectors run. No writes."""
