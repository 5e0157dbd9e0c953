"""How tests start two processes of one command, on a CPU."""

#: What follows the interpreter. accelerate's own ``--cpu`` starts one process only; what runs keeps these two off a GPU.
TWO_PROCESSES = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
TWO_PROCESSES += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
