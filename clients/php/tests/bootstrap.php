<?php

declare(strict_types=1);

// The packages of the system, or those of composer.
foreach ([dirname(__DIR__) . '/vendor/autoload.php', 'Nyholm/Psr7/autoload.php'] as $file) {
    if (stream_resolve_include_path($file) !== false) {
        require_once $file;
    }
}
require_once dirname(__DIR__) . '/autoload.php';
spl_autoload_register(function (string $class): void {
    $file = __DIR__ . '/' . substr($class, strlen('Coatcheck\\Session\\Tests\\')) . '.php';
    if (str_starts_with($class, 'Coatcheck\\Session\\Tests\\') && is_file($file)) {
        require $file;
    }
});
error_reporting(E_ALL);
