/* Runs an application on this computer: forever, or with any argument no longer than its setup. */
void setup(void);
void loop(void);

int main(int argc, char **argv)
{
    (void)argv;
    setup();
    while (argc < 2)
        loop();
    return 0;
}
