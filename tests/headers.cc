// Precompiled headers belong to a program: this one, which does nothing.
int main() {}
