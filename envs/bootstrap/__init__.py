"""Sets the project up from nothing: checks, virtual environment, Horovod. Standard library only, no project imports."""
