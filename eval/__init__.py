"""The reproduction room: the experiments of Q-PEFT (arXiv 2404.04522) as data, run by this project's own commands."""
