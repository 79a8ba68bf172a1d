"""Features from elsewhere (`FEATURES=`): of a pretrained network, of an ONNX file, or in a table, in place of our own."""
