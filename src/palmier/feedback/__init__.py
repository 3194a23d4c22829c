"""What people say of answers: the store, rankings and the rewards learnt from them."""
