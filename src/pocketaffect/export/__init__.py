"""Trained network to verified files: conversion, compression, proof by execution, and the ONNX twin."""
