"""What is particular to text: the corpus, its windows of tokens, and the extractor."""
