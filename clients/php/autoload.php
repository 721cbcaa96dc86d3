<?php

declare(strict_types=1);

// Loads the classes of this package, for programs without Composer.
spl_autoload_register(function (string $class): void {
    if (str_starts_with($class, 'Coatcheck\\Session\\')) {
        $file = __DIR__ . '/src/' . strtr(substr($class, strlen('Coatcheck\\Session\\')), '\\', '/') . '.php';
        if (is_file($file)) {
            require $file;
        }
    }
});
