"""Pictures and films to what their faces show: detection, crops as in training, any form of a model, rows out."""
