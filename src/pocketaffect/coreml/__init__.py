"""Network to Core ML package: conversion, byte-stable files, and their execution without Apple's runtime."""
