"""Measures Taskmill beside its peers on this machine, each as the processes its users run. Started by `bench/run`."""
