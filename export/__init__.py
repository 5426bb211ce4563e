"""A trained student in, a proven artefact out: ONNX → INT8 or FP16 → the ladder of proofs → the folder that is served."""
