"""Metrics of expressions and affect, their floor rows, tables for DVC, figures and the report."""
