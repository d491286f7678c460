"""Two small domains that are not diffusion: pictures of digits to classify, and text to continue.

domain      what a domain is (a network, a per-example loss, examples), and how its network is trained
digits      scikit-learn's handwritten digits and a small convolutional classifier
docstrings  the standard library's docstrings and a small GPT-2
halves      losses of networks trained on random halves: the ground truth that scores must predict
scores      the library's calls: features, kernel, weights, scores
"""
