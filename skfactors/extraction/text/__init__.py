"""What is particular to text: the corpus and its extractor."""
