<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="fr" sourcelanguage="en">
<context>
    <name>MALICE</name>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>MALICE engine {0}: {1}</source>
        <translation>Moteur MALICE {0} : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>done in {0} s: {1}</source>
        <translation>terminé en {0} s : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>{0}: {1}</source>
        <translation>{0} : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>A file cannot be read or written: {}. Is the disk full, or a folder closed to you?</source>
        <translation>Un fichier ne peut pas être lu ou écrit : {}. Le disque est-il plein, ou un dossier interdit d’accès ?</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>{0} cannot be read or written: {1}. Choose another folder, or make room.</source>
        <translation>{0} ne peut pas être lu ou écrit : {1}. Choisir un autre dossier, ou faire de la place.</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>{0} h {1:02d} min left</source>
        <translation>encore {0} h {1:02d} min</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>{0} min {1:02d} s left</source>
        <translation>encore {0} min {1:02d} s</translation>
    </message>
    <message>
        <location filename="../algorithms/base.py"/>
        <source>{0} s left</source>
        <translation>encore {0} s</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Detect change</source>
        <translation>Détecter les changements</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Where a place lived through two years differently.</source>
        <translation>Où un lieu a vécu deux années différemment.</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>&lt;p&gt;Compares two embeddings of one place, such as two years, pixel by pixel. They must be of the same model, sensors and queries, on the same grid, and should be of like dates.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Result:&lt;/b&gt; three bands: the &lt;i&gt;distance&lt;/i&gt;; its &lt;i&gt;significance&lt;/i&gt;, 0 to 1; and &lt;i&gt;changed&lt;/i&gt;, 1 where the distance is beyond the threshold. The layer's menu has a style for each (Styles).&lt;/p&gt;</source>
        <translation>&lt;p&gt;Compare deux plongements d’un même lieu, par exemple de deux années, pixel par pixel. Ils doivent être du même modèle, avec les mêmes capteurs et requêtes, sur la même grille, et de préférence de dates semblables.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Résultat :&lt;/b&gt; trois bandes : la &lt;i&gt;distance&lt;/i&gt; ; sa &lt;i&gt;significativité&lt;/i&gt;, de 0 à 1 ; et &lt;i&gt;changé&lt;/i&gt;, 1 là où la distance dépasse le seuil. Le menu de la couche a un style pour chacune (Styles).&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Embedding before</source>
        <translation>Plongement d’avant</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Embedding after</source>
        <translation>Plongement d’après</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Measure</source>
        <translation>Mesure</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>euclidean: in the space of the embedding; its significance can be believed. cosine: of directions, 0 to 2, which overrates it: for the order of pixels only.</source>
        <translation>euclidean : dans l’espace du plongement ; sa significativité est fiable. cosine : de directions, de 0 à 2, qui la surestime : pour l’ordre des pixels seulement.</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Threshold (otsu or a distance)</source>
        <translation>Seuil (otsu ou une distance)</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>otsu: chosen so that changed and unchanged pixels fall apart best. Or a distance, a number.</source>
        <translation>otsu : choisi pour séparer au mieux les pixels changés des autres. Ou une distance, un nombre.</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Change</source>
        <translation>Changement</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>GeoTIFF, float32, bands distance, significance (0 to 1), changed.</source>
        <translation>GeoTIFF, float32, bandes distance, significativité (0 à 1), changé.</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>THRESHOLD '{}' is neither otsu nor a distance of 0 or more.</source>
        <translation>THRESHOLD '{}' n’est ni otsu ni une distance de 0 ou plus.</translation>
    </message>
    <message>
        <location filename="../algorithms/change.py"/>
        <source>Change between two embeddings.</source>
        <translation>Changement entre deux plongements.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classify</source>
        <translation>Classifier</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>A map of classes, such as crops, from an embedding and a few labelled places.</source>
        <translation>Une carte de classes, par exemple de cultures, à partir d’un plongement et de quelques lieux étiquetés.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>&lt;p&gt;Learns &lt;b&gt;classes&lt;/b&gt; (crops, land cover) from labelled points or polygons over an embedding and maps them everywhere. Some dozen labels a class are often enough.&lt;/p&gt;&lt;p&gt;&lt;b&gt;How good?&lt;/b&gt; The report has the confusion matrix and precision, recall and F1 of each class, from cross-validation over spatial blocks: what is tested lies apart from what was trained on.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Other areas&lt;/b&gt; of the same year, with like dates: save the classifier (SAVE_CLASSIFIER) and give it as CLASSIFIER in place of labels. The embeddings must be of the same model, sensors and queries.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Other years:&lt;/b&gt; label some places of that year and learn anew. Embeddings of the same fields differ between years: in a trial, a classifier that was right at 82 % of the pixels of its own year was right at 7.5 % of the next one's.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Apprend des &lt;b&gt;classes&lt;/b&gt; (cultures, occupation du sol) à partir de points ou de polygones étiquetés sur un plongement, et les cartographie partout. Quelques dizaines d’étiquettes par classe suffisent souvent.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Est-ce bon ?&lt;/b&gt; Le rapport contient la matrice de confusion et, pour chaque classe, la précision, le rappel et le F1, par validation croisée sur des blocs spatiaux : ce qui est testé se trouve à l’écart de ce qui a servi à l’entraînement.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Autres zones&lt;/b&gt; de la même année, de dates semblables : enregistrez le classifieur (SAVE_CLASSIFIER) et donnez-le comme CLASSIFIER au lieu d’étiquettes. Les plongements doivent être du même modèle, avec les mêmes capteurs et requêtes.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Autres années :&lt;/b&gt; étiquetez quelques lieux de l’année en question et refaites l’apprentissage. Les plongements des mêmes parcelles diffèrent d’une année à l’autre : lors d’un essai, un classifieur juste pour 82 % des pixels de sa propre année l’était pour 7,5 % de ceux de la suivante.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Places whose class is known, in any CRS, also a layer in memory. Selected features only, if told.</source>
        <translation>Lieux dont la classe est connue, dans n’importe quel SCR, aussi une couche en mémoire. Les entités sélectionnées seulement, si on le demande.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>A web page with confusion matrix, scores of each class and how they were found.</source>
        <translation>Une page web avec la matrice de confusion, les scores de chaque classe et la façon dont ils ont été obtenus.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Class</source>
        <translation>Classe</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>The field of the labels with the class: text or whole numbers.</source>
        <translation>Le champ des étiquettes qui contient la classe : du texte ou des nombres entiers.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Pixels of a class at most</source>
        <translation>Pixels d’une classe, au plus</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>So many labelled pixels of each class are learned from, drawn by chance. By default 1000.</source>
        <translation>On apprend d’autant de pixels étiquetés de chaque classe, tirés au hasard. Par défaut 1000.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classifier of another run</source>
        <translation>Classifieur d’une autre exécution</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classes</source>
        <translation>Classes</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>GeoTIFF of whole numbers with names and colours; 0 is nodata.</source>
        <translation>GeoTIFF de nombres entiers avec noms et couleurs ; 0 est la valeur nulle.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Probability</source>
        <translation>Probabilité</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Probability of the class that won, 0 to 1.</source>
        <translation>Probabilité de la classe retenue, de 0 à 1.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classifier</source>
        <translation>Classifieur</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classifiers (*.skops)</source>
        <translation>Classifieurs (*.skops)</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Probability of the class that won.</source>
        <translation>Probabilité de la classe retenue.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classes learned from embeddings.</source>
        <translation>Classes apprises sur des plongements.</translation>
    </message>
    <message>
        <location filename="../algorithms/classify.py"/>
        <source>Classes ({})</source>
        <translation>Classes ({})</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Cluster</source>
        <translation>Partitionner</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Groups pixels with like years, without any labels.</source>
        <translation>Regroupe, sans aucune étiquette, les pixels dont les années se ressemblent.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>&lt;p&gt;Groups the pixels of an embedding into &lt;b&gt;clusters&lt;/b&gt; of like years (mini-batch k-means). No labels are needed; what each cluster is you find out by looking.&lt;/p&gt;&lt;p&gt;Clusters are numbered by size, the largest is 1. Save the fit (SAVE_FIT) to find the same clusters in other areas of the same year, with like dates (FIT; of the same model). Of another year find clusters anew: embeddings of the same places differ between years.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Regroupe les pixels d’un plongement en &lt;b&gt;groupes&lt;/b&gt; d’années semblables (k-moyennes par mini-lots). Il ne faut pas d’étiquettes ; ce qu’est chaque groupe, on le découvre en regardant.&lt;/p&gt;&lt;p&gt;Les groupes sont numérotés par taille, le plus grand est 1. Enregistrez l’ajustement (SAVE_FIT) pour retrouver les mêmes groupes dans d’autres zones de la même année, de dates semblables (FIT ; du même modèle). Pour une autre année, cherchez des groupes nouveaux : les plongements des mêmes lieux diffèrent d’une année à l’autre.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Fits (*.json)</source>
        <translation>Ajustements (*.json)</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Number of clusters</source>
        <translation>Nombre de groupes</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Not used with FIT, which has its own number.</source>
        <translation>Ne sert pas avec FIT, qui a son propre nombre.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Fit of another run</source>
        <translation>Ajustement d’une autre exécution</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>A fit that SAVE_FIT wrote, of an embedding of the same model: the same clusters are found.</source>
        <translation>Un ajustement écrit par SAVE_FIT, d’un plongement du même modèle : les mêmes groupes sont retrouvés.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>By default 20000.</source>
        <translation>Par défaut 20000.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Clusters</source>
        <translation>Groupes</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>GeoTIFF of whole numbers from 1; 0 is nodata.</source>
        <translation>GeoTIFF de nombres entiers à partir de 1 ; 0 est la valeur nulle.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Fit</source>
        <translation>Ajustement</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>A file (.json) for FIT in later runs.</source>
        <translation>Un fichier (.json) pour FIT lors d’exécutions suivantes.</translation>
    </message>
    <message>
        <location filename="../algorithms/cluster.py"/>
        <source>Clusters of embeddings.</source>
        <translation>Groupes de plongements.</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>MALICE embed</source>
        <translation>MALICE : plongement</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>One raster that says what every pixel did in a year of Sentinel images.</source>
        <translation>Un raster qui dit ce que chaque pixel a vécu pendant une année d’images Sentinel.</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>&lt;p&gt;Turns a year of Sentinel-2 and/or Sentinel-1 images into one raster of features (an embedding) with a MALICE network. Features tell crops, woods, grassland and their changes apart, and serve classification, clustering and the search for similar places.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Images:&lt;/b&gt; one layer a date, or a folder of them, over 6 to 18 months. Sentinel-2 as surface reflectance (L2A), Sentinel-1 as linear gamma0 (not decibels). Dates come from names, tags, or the layers' temporal range. Cloudy dates are left out where the scene classification (SCL) is given.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Result:&lt;/b&gt; 64 bands for each of 10 queries and each sensor, of which three that differ are shown as colours. In full, as float32 and uncompressed, that is 5 kB a pixel for two sensors: fewer queries or another number type make smaller files.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Run:&lt;/b&gt; the network runs in an engine of its own, outside QGIS. A cancelled run that writes to a file you named can be continued (advanced parameters).&lt;/p&gt;</source>
        <translation>&lt;p&gt;Transforme une année d’images Sentinel-2 et/ou Sentinel-1 en un seul raster de caractéristiques, un plongement (embedding), à l’aide d’un réseau MALICE. Ces caractéristiques distinguent les cultures, les bois, les prairies et leurs changements ; elles servent à la classification, au partitionnement et à la recherche de lieux semblables.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Images :&lt;/b&gt; une couche par date, ou un dossier d’images, sur 6 à 18 mois. Sentinel-2 en réflectance de surface (L2A), Sentinel-1 en gamma0 linéaire (pas en décibels). Les dates viennent des noms, des métadonnées ou de la plage temporelle des couches. Les dates nuageuses sont écartées si la classification de scène (SCL) est fournie.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Résultat :&lt;/b&gt; 64 bandes pour chacune des 10 requêtes et pour chaque capteur, dont trois bien distinctes sont affichées en couleurs. Au complet, en float32 et sans compression, cela fait 5 ko par pixel pour deux capteurs : moins de requêtes ou un autre type de nombres donnent des fichiers plus petits.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Exécution :&lt;/b&gt; le réseau tourne dans un moteur à part, hors de QGIS. Une exécution annulée dont la sortie est un fichier que vous avez nommé peut être reprise (paramètres avancés).&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>&lt;p&gt;&lt;b&gt;Installed models:&lt;/b&gt;&lt;/p&gt;</source>
        <translation>&lt;p&gt;&lt;b&gt;Modèles installés :&lt;/b&gt;&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>Finished blocks stay in {}: run again with RESUME, or delete it.</source>
        <translation>Les blocs terminés restent dans {} : relancez avec RESUME, ou supprimez ce dossier.</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>PLAN {0} cannot be written: {1}</source>
        <translation>PLAN {0} ne peut pas être écrit : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>Number of valid dates of each pixel.</source>
        <translation>Nombre de dates valides de chaque pixel.</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>Valid dates</source>
        <translation>Dates valides</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>The result is whole, but is not shown as it should be: {}</source>
        <translation>Le résultat est complet, mais n’est pas présenté comme il le devrait : {}</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>Plan of the embedding</source>
        <translation>Plan du calcul</translation>
    </message>
    <message>
        <location filename="../algorithms/embed.py"/>
        <source>Warnings</source>
        <translation>Avertissements</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>MALICE inspect images</source>
        <translation>MALICE : examiner des images</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>What is in a series of images, and what embedding it would take, before it is computed.</source>
        <translation>Ce que contient une série d’images, et ce que coûterait son plongement, avant de le calculer.</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>&lt;p&gt;Looks at a series of Sentinel-2 and/or Sentinel-1 images as &lt;i&gt;MALICE embed&lt;/i&gt; would, with the same parameters, and computes nothing.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Report:&lt;/b&gt; which dates would be used, which not and why; clouds and valid pixels of each; gaps; doubts about units, offsets, bands and grids; the memory and disk a run needs at most, and about how long it computes, by a short trial of the model on this machine. What would end a run is said too, all of it at once.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Table:&lt;/b&gt; a row for each date, to sort and filter.&lt;/p&gt;&lt;p&gt;In areas larger than 512 × 512 pixels, cloud and valid shares are estimated from points, so that a whole Sentinel-2 tile takes minutes; &lt;i&gt;Look at all pixels&lt;/i&gt; counts them.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Examine une série d’images Sentinel-2 et/ou Sentinel-1 comme le ferait &lt;i&gt;MALICE : plongement&lt;/i&gt;, avec les mêmes paramètres, et ne calcule rien.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Rapport :&lt;/b&gt; quelles dates serviraient, lesquelles non et pourquoi ; les nuages et les pixels valides de chacune ; les lacunes ; les doutes sur les unités, les décalages, les bandes et les grilles ; la mémoire et le disque qu’une exécution demande au plus, et à peu près combien de temps elle calcule, d’après un court essai du modèle sur cette machine. Ce qui mettrait fin à une exécution est dit aussi, en une seule fois.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Table :&lt;/b&gt; une ligne par date, à trier et à filtrer.&lt;/p&gt;&lt;p&gt;Dans les zones de plus de 512 × 512 pixels, les parts de nuages et de pixels valides sont estimées à partir de points, si bien qu’une tuile Sentinel-2 entière prend des minutes ; &lt;i&gt;Regarder tous les pixels&lt;/i&gt; les compte.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>Look at all pixels</source>
        <translation>Regarder tous les pixels</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>Counts clouds and valid pixels as a run does, however large the area; slower for whole tiles.</source>
        <translation>Compte les nuages et les pixels valides comme une exécution, si grande que soit la zone ; plus lent pour des tuiles entières.</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>Report</source>
        <translation>Rapport</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>HTML files (*.html)</source>
        <translation>Fichiers HTML (*.html)</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>A page with tables and plots, which needs no network.</source>
        <translation>Une page avec des tableaux et des graphiques, qui n’a pas besoin de réseau.</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>Dates</source>
        <translation>Dates</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>A table without geometry: a row for each date, with sensor, orbit, clouds, valid share, files, use.</source>
        <translation>Une table sans géométrie : une ligne par date, avec capteur, orbite, nuages, part valide, fichiers, usage.</translation>
    </message>
    <message>
        <location filename="../algorithms/inspect.py"/>
        <source>The engine's report cannot be read: {}</source>
        <translation>Le rapport du moteur ne peut pas être lu : {}</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>LABELS are learned from, CLASSIFIER has learned already: leave out one.</source>
        <translation>On apprend de LABELS, CLASSIFIER a déjà appris : ne donnez que l’un des deux.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Nothing to learn from: give LABELS, or what SAVE_CLASSIFIER wrote as CLASSIFIER.</source>
        <translation>Rien dont on puisse apprendre : donnez LABELS, ou donnez comme CLASSIFIER ce que SAVE_CLASSIFIER a écrit.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>FIELD is not set: choose the field of LABELS that is to be learned.</source>
        <translation>FIELD n’est pas donné : choisissez le champ de LABELS qui doit être appris.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>FOLDS 1 is no test: give 0 for none, or 2 or more.</source>
        <translation>FOLDS 1 n’est pas un test : donner 0 pour aucun, ou 2 ou plus.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>No REPORT is written: it is about training, and CLASSIFIER was trained already.</source>
        <translation>Aucun REPORT n’est écrit : il parle de l’entraînement, et CLASSIFIER est déjà entraîné.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Labels (points or polygons)</source>
        <translation>Étiquettes (points ou polygones)</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Method</source>
        <translation>Méthode</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>linear: a linear model, quick and good with few labels. knn: the nearest labelled pixels decide. forest: a random forest, slower to apply.</source>
        <translation>linear : un modèle linéaire, rapide et bon avec peu d’étiquettes. knn : les pixels étiquetés les plus proches décident. forest : une forêt aléatoire, plus lente à appliquer.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>In place of labels: a file that SAVE_CLASSIFIER wrote, of an embedding of the same model.</source>
        <translation>Au lieu d’étiquettes : un fichier écrit par SAVE_CLASSIFIER, d’un plongement du même modèle.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Folds of cross-validation</source>
        <translation>Plis de la validation croisée</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>So many times it is trained without a share of the blocks and tested on it: 2 or more. 0: no test.</source>
        <translation>Autant de fois, l’entraînement se fait sans une part des blocs, et le test sur elle : 2 ou plus. 0 : pas de test.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Pixels of a polygon at most</source>
        <translation>Pixels d’un polygone, au plus</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Of a larger polygon some are drawn by chance, so that it outweighs no others. By default 50.</source>
        <translation>D’un polygone plus grand, quelques-uns sont tirés au hasard, pour qu’il ne pèse pas plus que les autres. Par défaut 50.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>A file (.skops) for CLASSIFIER in later runs: on other areas of the same year, with like dates.</source>
        <translation>Un fichier (.skops) pour CLASSIFIER lors d’exécutions suivantes : sur d’autres zones de la même année, de dates semblables.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Side in metres of the square blocks that are tested together. Neighbouring pixels are alike, so that testing beside what was trained on flatters; take more than the size of a field. By default the engine chooses.</source>
        <translation>Côté, en mètres, des blocs carrés qui sont testés ensemble. Des pixels voisins se ressemblent : tester à côté de ce qui a servi à l’entraînement flatte le résultat ; prenez plus que la taille d’une parcelle. Par défaut, le moteur choisit.</translation>
    </message>
    <message>
        <location filename="../algorithms/learning.py"/>
        <source>Side of the blocks (metres)</source>
        <translation>Côté des blocs (mètres)</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>MALICE models</source>
        <translation>MALICE : modèles</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Lists, installs, imports, checks and removes the models of the engine.</source>
        <translation>Liste, installe, importe, vérifie et supprime les modèles du moteur.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>&lt;p&gt;Looks after the models (networks) the engine has.&lt;/p&gt;&lt;p&gt;&lt;b&gt;list&lt;/b&gt;: all of them. &lt;b&gt;info&lt;/b&gt;: what is known of one. &lt;b&gt;verify&lt;/b&gt;: reads a model's files, compares them with its card and runs them in every runtime.&lt;/p&gt;&lt;p&gt;&lt;b&gt;install&lt;/b&gt;: downloads the published encoders, &lt;i&gt;malice&lt;/i&gt;. Their weights have the licence AGPL-3.0-only (https://spdx.org/licenses/AGPL-3.0-only.html), which has to be accepted.&lt;/p&gt;&lt;p&gt;&lt;b&gt;import&lt;/b&gt;: makes a model of files: the published ONNX files, one a sensor, or a checkpoint of your own training. For machines without a network.&lt;/p&gt;&lt;p&gt;&lt;b&gt;remove&lt;/b&gt;: deletes a model. Those that come with the engine stay.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Result:&lt;/b&gt; a table (and a page, if wanted) of the models that are there afterwards: sensors, size, licence, identity (a hash of all files), whether the files are what the card says, folder.&lt;/p&gt;</source>
        <translation>&lt;p&gt;S’occupe des modèles (réseaux) que le moteur possède.&lt;/p&gt;&lt;p&gt;&lt;b&gt;list&lt;/b&gt; : tous. &lt;b&gt;info&lt;/b&gt; : ce qu’on sait d’un modèle. &lt;b&gt;verify&lt;/b&gt; : lit les fichiers d’un modèle, les compare à sa fiche et les exécute dans chaque bibliothèque.&lt;/p&gt;&lt;p&gt;&lt;b&gt;install&lt;/b&gt; : télécharge les encodeurs publiés, &lt;i&gt;malice&lt;/i&gt;. Leurs poids ont la licence AGPL-3.0-only (https://spdx.org/licenses/AGPL-3.0-only.html), qu’il faut accepter.&lt;/p&gt;&lt;p&gt;&lt;b&gt;import&lt;/b&gt; : fait un modèle à partir de fichiers : les fichiers ONNX publiés, un par capteur, ou un point de sauvegarde de votre propre entraînement. Pour les machines sans réseau.&lt;/p&gt;&lt;p&gt;&lt;b&gt;remove&lt;/b&gt; : supprime un modèle. Ceux qui viennent avec le moteur restent.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Résultat :&lt;/b&gt; une table (et une page, si on la veut) des modèles présents ensuite : capteurs, taille, licence, identité (une empreinte de tous les fichiers), si les fichiers sont ce que dit la fiche, dossier.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Of an installed model; for install, malice (the default); for import, the name it gets: lower-case letters, digits and . _ -</source>
        <translation>D’un modèle installé ; pour install, malice (par défaut) ; pour import, le nom qu’il reçoit : des lettres minuscules, des chiffres et . _ -</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Installed: {}</source>
        <translation>Installés : {}</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>What to do</source>
        <translation>Que faire</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>list, install, import, verify, remove or info.</source>
        <translation>list, install, import, verify, remove ou info.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Name of the model</source>
        <translation>Nom du modèle</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Files to import</source>
        <translation>Fichiers à importer</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Published ONNX files, one a sensor, or one checkpoint (.ckpt).</source>
        <translation>Des fichiers ONNX publiés, un par capteur, ou un point de sauvegarde (.ckpt).</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>I accept the licence of the weights</source>
        <translation>J’accepte la licence des poids</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>For install. The published encoders: AGPL-3.0-only. Without it nothing is downloaded.</source>
        <translation>Pour install. Les encodeurs publiés : AGPL-3.0-only. Sans cela, rien n’est téléchargé.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Replace a model of that name</source>
        <translation>Remplacer un modèle de ce nom</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>For install and import.</source>
        <translation>Pour install et import.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Models</source>
        <translation>Modèles</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>A table without geometry: a row for each model.</source>
        <translation>Une table sans géométrie : une ligne par modèle.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>A page with what was done, and the models.</source>
        <translation>Une page avec ce qui a été fait, et les modèles.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>NAME '{}' is no name of a model: at most 64 lower-case letters, digits and . _ -</source>
        <translation>NAME '{}' n’est pas un nom de modèle : au plus 64 lettres minuscules, chiffres et . _ -</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>ACTION {} needs NAME, the name of a model.</source>
        <translation>ACTION {} a besoin de NAME, le nom d’un modèle.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>ACTION import needs FILES: the published ONNX files, or a checkpoint.</source>
        <translation>ACTION import a besoin de FILES : les fichiers ONNX publiés, ou un point de sauvegarde.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>FILES are for ACTION import, not for {}: leave them out.</source>
        <translation>FILES va avec ACTION import, pas avec {} : ne le donnez pas.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>FILES: there is no file {}; check the path.</source>
        <translation>FILES : il n’y a pas de fichier {} ; vérifiez le chemin.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>The weights of {0} ({1}) have the licence {2} (https://spdx.org/licenses/{2}.html): set ACCEPT_LICENCE to install them.</source>
        <translation>Les poids de {0} ({1}) ont la licence {2} (https://spdx.org/licenses/{2}.html) : cochez ACCEPT_LICENCE pour les installer.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Set ACCEPT_LICENCE to install a model: its weights have a licence of their own.</source>
        <translation>Cochez ACCEPT_LICENCE pour installer un modèle : ses poids ont leur propre licence.</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>yes</source>
        <translation>oui</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>no</source>
        <translation>non</translation>
    </message>
    <message>
        <location filename="../algorithms/models.py"/>
        <source>Models of the engine</source>
        <translation>Modèles du moteur</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>What MALICE embed made: GeoTIFF, COG or VRT, of any number type (not Zarr).</source>
        <translation>Ce que MALICE a fait par « plongement » (embed) : GeoTIFF, COG ou VRT, de n’importe quel type de nombres (pas Zarr).</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Embedding</source>
        <translation>Plongement (embedding)</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>So many pixels, drawn from the whole raster, are looked at to find them.</source>
        <translation>Autant de pixels, tirés de tout le raster, sont regardés pour les trouver.</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Pixels to learn from</source>
        <translation>Pixels dont on apprend</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Another number draws other pixels by chance; the same number gives the same result.</source>
        <translation>Un autre nombre tire d’autres pixels au hasard ; le même nombre donne le même résultat.</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Random seed</source>
        <translation>Graine du hasard</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Memory to stay under, such as 2GB; decides the size of blocks. The result does not depend on it.</source>
        <translation>Mémoire à ne pas dépasser, comme 2GB ; décide de la taille des blocs. Le résultat n’en dépend pas.</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Number of processor threads to use, by default all.</source>
        <translation>Nombre de fils d’exécution du processeur, par défaut tous.</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Memory limit</source>
        <translation>Limite de mémoire</translation>
    </message>
    <message>
        <location filename="../algorithms/options.py"/>
        <source>Processor threads</source>
        <translation>Fils d’exécution du processeur</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>scene classification</source>
        <translation>classification de scène</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>All files (*)</source>
        <translation>Tous les fichiers (*)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Name of an installed model; empty: the published one where it is installed.</source>
        <translation>Nom d’un modèle installé ; vide : le modèle publié, s’il est installé.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Model</source>
        <translation>Modèle</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>For MALICE Aux models only, which need it.</source>
        <translation>Seulement pour les modèles MALICE Aux, qui en ont besoin.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Weather (AgERA5 files or folder)</source>
        <translation>Météo (fichiers ou dossier AgERA5)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Daily AgERA5: rasters of a day, files of the Copernicus Climate Data Store, netCDF, a folder of them, or a CSV with a date and eight columns. Every date of the images needs its own day, the four before and the one after.</source>
        <translation>AgERA5 journalier : rasters d’un jour, fichiers du Climate Data Store de Copernicus, netCDF, un dossier de ceux-ci, ou un CSV avec une date et huit colonnes. Chaque date des images a besoin de son propre jour, des quatre d’avant et de celui d’après.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Days without weather</source>
        <translation>Jours sans météo</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>error: the run ends and names them. nearest: the nearest day is taken. drop-date: a date is left out.</source>
        <translation>error : le calcul s’arrête et les nomme. nearest : le jour le plus proche est pris. drop-date : la date est écartée.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Elevation (DEM)</source>
        <translation>Altitude (MNT)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>A raster of metres above sea level, such as Copernicus GLO-30, in any CRS, that covers the area.</source>
        <translation>Un raster de mètres au-dessus du niveau de la mer, comme Copernicus GLO-30, dans n’importe quel SCR, qui couvre la zone.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Holes of the DEM</source>
        <translation>Trous du MNT</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>error: the run ends and counts them. fill: elevations around them are taken, up to 64 pixels away.</source>
        <translation>error : le calcul s’arrête et les compte. fill : les altitudes voisines sont prises, jusqu’à 64 pixels de distance.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 angles (files or folder)</source>
        <translation>Angles de Sentinel-2 (fichiers ou dossier)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sun and view: a CSV with a date and the columns sun_zenith sun_azimuth view_zenith view_azimuth in degrees, STAC items (.json), an MTD_TL.xml, or a folder of .SAFE products.</source>
        <translation>Soleil et visée : un CSV avec une date et les colonnes sun_zenith sun_azimuth view_zenith view_azimuth en degrés, des éléments STAC (.json), un MTD_TL.xml ou un dossier de produits .SAFE.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-1 incidence angle (files, folder or degrees)</source>
        <translation>Angle d’incidence de Sentinel-1 (fichiers, dossier ou degrés)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>A CSV with a date and incidence_angle in degrees, STAC items (.json), a folder of them, a number such as 38.5 for all dates, or 161=39.1 for a relative orbit (several with blanks between).</source>
        <translation>Un CSV avec une date et incidence_angle en degrés, des éléments STAC (.json), un dossier de ceux-ci, un nombre comme 38.5 pour toutes les dates, ou 161=39.1 pour une orbite relative (plusieurs, séparées par des blancs).</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Dates without angles</source>
        <translation>Dates sans angles</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>error: the run ends and names them. median: the median of the network's training is taken.</source>
        <translation>error : le calcul s’arrête et les nomme. median : la médiane de l’entraînement du réseau est prise.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 images (layers)</source>
        <translation>Images Sentinel-2 (couches)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Layers with surface reflectance (L2A), one a date, with the bands B02 B03 B04 B05 B06 B07 B08 B8A B11 B12. The date comes from the time axis, the name or the tags, else from the layer's temporal range. 6 to 18 months are recommended.</source>
        <translation>Couches de réflectance de surface (L2A), une par date, avec les bandes B02 B03 B04 B05 B06 B07 B08 B8A B11 B12. La date vient de l’axe du temps, du nom ou des métadonnées, sinon de la plage temporelle de la couche. 6 à 18 mois sont recommandés.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 images (folder)</source>
        <translation>Images Sentinel-2 (dossier)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>In place of layers, or besides them: a folder of images or products. Dates come from names or tags.</source>
        <translation>Au lieu de couches, ou en plus : un dossier d’images ou de produits. Les dates viennent des noms ou des métadonnées.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-1 images (layers)</source>
        <translation>Images Sentinel-1 (couches)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Layers with VV and VH as linear gamma0 (not decibels), one a date, ascending orbits.</source>
        <translation>Couches avec VV et VH en gamma0 linéaire (pas en décibels), une par date, orbites ascendantes.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-1 images (folder)</source>
        <translation>Images Sentinel-1 (dossier)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>As for Sentinel-2.</source>
        <translation>Comme pour Sentinel-2.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 scene classification (layers)</source>
        <translation>Classification de scène de Sentinel-2 (couches)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Layers with the classes (SCL) of the Sentinel-2 dates, from which cloud shares are computed.</source>
        <translation>Couches avec les classes (SCL) des dates de Sentinel-2, dont on calcule la part de nuages.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 scene classification (folder)</source>
        <translation>Classification de scène de Sentinel-2 (dossier)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>First date</source>
        <translation>Première date</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Images before this day are left out.</source>
        <translation>Les images d’avant ce jour sont écartées.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Last date</source>
        <translation>Dernière date</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Images after this day are left out.</source>
        <translation>Les images d’après ce jour sont écartées.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Maximum cloud cover (%)</source>
        <translation>Couverture nuageuse maximale (%)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Sentinel-2 dates with more cloud and cloud shadow in the area are left out. Used when a scene classification is given.</source>
        <translation>Les dates de Sentinel-2 qui ont plus de nuages et d’ombres de nuages dans la zone sont écartées. Sert si une classification de scène est fournie.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Area of interest</source>
        <translation>Zone d’intérêt</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>In any CRS, grown outwards to whole pixels of the images. By default all that the images cover.</source>
        <translation>Dans n’importe quel SCR, étendue vers l’extérieur à des pixels entiers des images. Par défaut, tout ce que couvrent les images.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Number type</source>
        <translation>Type de nombres</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>float32: as computed. float16: half the file. int16: half the file, with scale and offset that QGIS applies. int8: an eighth, with a scale raster NAME_scale.tif beside it.</source>
        <translation>float32 : comme calculé. float16 : la moitié du fichier. int16 : la moitié du fichier, avec une échelle et un décalage que QGIS applique. int8 : un huitième, avec un raster d’échelle NAME_scale.tif à côté.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>File format</source>
        <translation>Format de fichier</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>gtiff: tiled GeoTIFF. cog: cloud-optimised, with overviews.</source>
        <translation>gtiff : GeoTIFF tuilé. cog : optimisé pour le cloud (COG), avec aperçus.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Queries, such as 0,3 (empty: all)</source>
        <translation>Requêtes, comme 0,3 (vide : toutes)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Only these of the model's queries, numbers from 0 to 9. Each has 64 bands a sensor; fewer make a smaller file.</source>
        <translation>Seulement ces requêtes du modèle, des nombres de 0 à 9. Chacune a 64 bandes par capteur ; moins de requêtes font un fichier plus petit.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Edges of the images</source>
        <translation>Bords des images</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>mirror: images are continued by reflection, results do not depend on the area. published: as the published code does; width and height must be multiples of 8.</source>
        <translation>mirror : les images sont prolongées par réflexion, les résultats ne dépendent pas de la zone. published : comme le code publié ; la largeur et la hauteur doivent être des multiples de 8.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Missing observations</source>
        <translation>Observations manquantes</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>mask: left out. zero: enter as zeros, as in the published code.</source>
        <translation>mask : ignorées. zero : entrent comme des zéros, comme dans le code publié.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Side of a block (pixels)</source>
        <translation>Côté d’un bloc (pixels)</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>A multiple of 8; wins over the memory. By default chosen from it.</source>
        <translation>Un multiple de 8 ; l’emporte sur la mémoire. Par défaut, choisi d’après elle.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>By default all.</source>
        <translation>Par défaut, tous.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Device</source>
        <translation>Périphérique</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>cuda needs an engine with a runtime for it.</source>
        <translation>cuda demande un moteur qui a la bibliothèque d’exécution pour cela.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Precision</source>
        <translation>Précision</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>A little less exact, and faster: bfloat16 on processors that have it, float16 on a graphics card.</source>
        <translation>Un peu moins exact, et plus rapide : bfloat16 sur les processeurs qui en disposent, float16 sur une carte graphique.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Go on with an interrupted run</source>
        <translation>Reprendre une exécution interrompue</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Continues what a cancelled or failed run with the same inputs, options and output file left beside the output. Not with temporary outputs.</source>
        <translation>Continue ce qu’une exécution annulée ou échouée, avec les mêmes entrées, options et fichier de sortie, a laissé à côté de la sortie. Pas pour les sorties temporaires.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>GeoTIFF with 64 bands a query and sensor, named Q00F00 … Q09F63.</source>
        <translation>GeoTIFF de 64 bandes par requête et par capteur, nommées Q00F00 … Q09F63.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Number of valid dates</source>
        <translation>Nombre de dates valides</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>How many dates each pixel was seen on, one band a sensor.</source>
        <translation>À combien de dates chaque pixel a été vu, une bande par capteur.</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>Plan of the run</source>
        <translation>Plan de l’exécution</translation>
    </message>
    <message>
        <location filename="../algorithms/parameters.py"/>
        <source>All that was decided before computing: dates and why others were left out, area, blocks, memory.</source>
        <translation>Tout ce qui a été décidé avant le calcul : les dates, et pourquoi d’autres sont écartées, la zone, les blocs, la mémoire.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Principal components (PCA)</source>
        <translation>Composantes principales (ACP)</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>A picture of an embedding: its principal components as colours, which a saved fit repeats.</source>
        <translation>Une image d’un plongement : ses composantes principales en couleurs, qu’un ajustement enregistré répète.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>&lt;p&gt;Reduces the hundreds of bands of an embedding to a few &lt;b&gt;principal components&lt;/b&gt;: those directions in which the pixels differ most. The first three are shown as red, green and blue, so that places with like years have like colours.&lt;/p&gt;&lt;p&gt;&lt;b&gt;The same colours elsewhere:&lt;/b&gt; save the fit (SAVE_FIT) of one embedding and give it as FIT for others of the same model, sensors and queries. Components and stretch are then the same. The same colour means the same in other areas of the same year, with like dates. Between years embeddings of an unchanged place differ, and so do its colours: where they lie far apart the run warns. Whether a place has changed &lt;i&gt;Detect change&lt;/i&gt; tells.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Result:&lt;/b&gt; float32, bands PC1, PC2, …; no unit.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Réduit les centaines de bandes d’un plongement à quelques &lt;b&gt;composantes principales&lt;/b&gt; : les directions dans lesquelles les pixels diffèrent le plus. Les trois premières sont affichées en rouge, vert et bleu, si bien que les lieux dont les années se ressemblent ont des couleurs semblables.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Les mêmes couleurs ailleurs :&lt;/b&gt; enregistrez l’ajustement (SAVE_FIT) d’un plongement et donnez-le comme FIT pour d’autres du même modèle, avec les mêmes capteurs et requêtes. Les composantes et l’étirement sont alors les mêmes. La même couleur a le même sens dans d’autres zones de la même année, de dates semblables. D’une année à l’autre, les plongements d’un lieu inchangé diffèrent, et donc ses couleurs : là où ils sont loin l’un de l’autre, l’exécution avertit. Si un lieu a changé, c’est &lt;i&gt;Détecter les changements&lt;/i&gt; qui le dit.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Résultat :&lt;/b&gt; float32, bandes PC1, PC2, … ; sans unité.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Number of components</source>
        <translation>Nombre de composantes</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Bands of the result. Not used with FIT, which has its own number.</source>
        <translation>Bandes du résultat. Ne sert pas avec FIT, qui a son propre nombre.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>A fit that SAVE_FIT wrote, of an embedding of the same model: nothing is fitted anew.</source>
        <translation>Un ajustement écrit par SAVE_FIT, d’un plongement du même modèle : rien n’est ajusté de nouveau.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Without SAMPLE none are drawn, and it means nothing.</source>
        <translation>Sans SAMPLE, aucun n’est tiré, et ce nombre ne veut rien dire.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Components</source>
        <translation>Composantes</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>GeoTIFF, float32, bands PC1, PC2, … without unit.</source>
        <translation>GeoTIFF, float32, bandes PC1, PC2, … sans unité.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>A file (.json) for FIT in later runs: the same components and stretch.</source>
        <translation>Un fichier (.json) pour FIT lors d’exécutions suivantes : les mêmes composantes et le même étirement.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>Principal components of embeddings.</source>
        <translation>Composantes principales de plongements.</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>PCA</source>
        <translation>ACP</translation>
    </message>
    <message>
        <location filename="../algorithms/pca.py"/>
        <source>FIT is used as it is, there is none to save: leave out FIT or SAVE_FIT.</source>
        <translation>FIT sert tel quel, il n’y a rien à enregistrer : ne donnez pas FIT, ou pas SAVE_FIT.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Regress</source>
        <translation>Régression</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>A map of a measured number, such as tree cover, from an embedding and some measured places.</source>
        <translation>Une carte d’une grandeur mesurée, par exemple le couvert arboré, à partir d’un plongement et de quelques lieux mesurés.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>&lt;p&gt;Learns a &lt;b&gt;number&lt;/b&gt; (tree cover, biomass, yield) from points or polygons where it was measured, over an embedding, and maps it everywhere. The result is in the unit of the field.&lt;/p&gt;&lt;p&gt;&lt;b&gt;How good?&lt;/b&gt; The report compares what was measured with what was predicted, from cross-validation over spatial blocks: what is tested lies apart from what was trained on.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Other areas&lt;/b&gt; of the same year, with like dates: save what was learned (SAVE_CLASSIFIER) and give it as CLASSIFIER in place of labels. The embeddings must be of the same model, sensors and queries.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Other years:&lt;/b&gt; learn anew from places that were measured then. Embeddings of the same place differ between years, and what was learned in one is wrong in another.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Apprend un &lt;b&gt;nombre&lt;/b&gt; (couvert arboré, biomasse, rendement) à partir de points ou de polygones où il a été mesuré, sur un plongement, et le cartographie partout. Le résultat est dans l’unité du champ.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Est-ce bon ?&lt;/b&gt; Le rapport compare ce qui a été mesuré à ce qui est prédit, par validation croisée sur des blocs spatiaux : ce qui est testé se trouve à l’écart de ce qui a servi à l’entraînement.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Autres zones&lt;/b&gt; de la même année, de dates semblables : enregistrez ce qui a été appris (SAVE_CLASSIFIER) et donnez-le comme CLASSIFIER au lieu d’étiquettes. Les plongements doivent être du même modèle, avec les mêmes capteurs et requêtes.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Autres années :&lt;/b&gt; refaites l’apprentissage avec des lieux mesurés cette année-là. Les plongements d’un même lieu diffèrent d’une année à l’autre, et ce qui a été appris dans l’une est faux dans une autre.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Places where it was measured, in any CRS, also a layer in memory. Selected features only, if told.</source>
        <translation>Lieux où il a été mesuré, dans n’importe quel SCR, aussi une couche en mémoire. Les entités sélectionnées seulement, si on le demande.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>A web page with the errors, measured against predicted, and how they were found.</source>
        <translation>Une page web avec les erreurs, le mesuré face au prédit, et la façon dont elles ont été obtenues.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Number</source>
        <translation>Nombre</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>The numeric field of the labels that is learned.</source>
        <translation>Le champ numérique des étiquettes qui est appris.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Labelled pixels at most</source>
        <translation>Pixels étiquetés, au plus</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>So many labelled pixels are learned from, drawn by chance. By default 10000.</source>
        <translation>On apprend d’autant de pixels étiquetés, tirés au hasard. Par défaut 10000.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Trained model of another run</source>
        <translation>Modèle entraîné d’une autre exécution</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Prediction</source>
        <translation>Prédiction</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>GeoTIFF, float32, in the unit of the field.</source>
        <translation>GeoTIFF, float32, dans l’unité du champ.</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Trained model</source>
        <translation>Modèle entraîné</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>Trained models (*.skops)</source>
        <translation>Modèles entraînés (*.skops)</translation>
    </message>
    <message>
        <location filename="../algorithms/regress.py"/>
        <source>A number learned from embeddings.</source>
        <translation>Un nombre appris sur des plongements.</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>Sample at points</source>
        <translation>Échantillonner aux points</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>The embedding at points, as columns of their attribute table.</source>
        <translation>Le plongement aux points, en colonnes de leur table attributaire.</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>&lt;p&gt;Reads the embedding at &lt;b&gt;points&lt;/b&gt; and adds a column a band to their attributes, for statistics, plots or learning elsewhere. Numbers are those of the embedding, whatever type it is stored in.&lt;/p&gt;&lt;p&gt;Points outside the raster and on pixels without data have empty values. Each part of a multipoint becomes a point. A Shapefile takes 255 columns at most: choose a GeoPackage, or an embedding with fewer queries.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Lit le plongement à des &lt;b&gt;points&lt;/b&gt; et ajoute une colonne par bande à leurs attributs, pour des statistiques, des graphiques ou un apprentissage ailleurs. Les nombres sont ceux du plongement, quel que soit le type dans lequel il est enregistré.&lt;/p&gt;&lt;p&gt;Les points hors du raster et sur des pixels sans données ont des valeurs vides. Chaque partie d’un multipoint devient un point. Un Shapefile prend 255 colonnes au plus : choisissez un GeoPackage, ou un plongement avec moins de requêtes.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>Points</source>
        <translation>Points</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>In any CRS, also a layer in memory. Selected features only, if told.</source>
        <translation>Dans n’importe quel SCR, aussi une couche en mémoire. Les entités sélectionnées seulement, si on le demande.</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>Prefix of the columns</source>
        <translation>Préfixe des colonnes</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>Before the names of the bands, such as y2024_, to keep the columns of several years apart.</source>
        <translation>Devant les noms des bandes, comme y2024_, pour distinguer les colonnes de plusieurs années.</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>Points with the embedding</source>
        <translation>Points avec le plongement</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>The points with their attributes and a column a band (Q00F00 …); any vector format.</source>
        <translation>Les points avec leurs attributs et une colonne par bande (Q00F00 …) ; n’importe quel format vecteur.</translation>
    </message>
    <message>
        <location filename="../algorithms/sample.py"/>
        <source>OUTPUT {0} would have {1} columns, and a Shapefile takes {2}: choose a GeoPackage (.gpkg).</source>
        <translation>OUTPUT {0} aurait {1} colonnes, et un Shapefile en prend {2} : choisissez un GeoPackage (.gpkg).</translation>
    </message>
    <message>
        <location filename="../algorithms/series.py"/>
        <source>Image time series</source>
        <translation>Séries temporelles d’images</translation>
    </message>
    <message>
        <location filename="../algorithms/series.py"/>
        <source>No scene classification is given: cloudy dates are not left out.</source>
        <translation>Aucune classification de scène n’est fournie : les dates nuageuses ne sont pas écartées.</translation>
    </message>
    <message>
        <location filename="../algorithms/series.py"/>
        <source>EXTENT has no area: choose an area or a layer with one, or leave it out.</source>
        <translation>EXTENT n’a pas de surface : choisissez une emprise ou une couche qui en a une, ou n’en donnez pas.</translation>
    </message>
    <message>
        <location filename="../algorithms/series.py"/>
        <source>EXTENT: the CRS '{}' is not known.</source>
        <translation>EXTENT : le SCR '{}' est inconnu.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>MALICE set-up</source>
        <translation>MALICE : installation du moteur</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Sets up the engine that computes: run it once after the plugin is installed.</source>
        <translation>Installe le moteur qui calcule : à exécuter une fois après l’installation de l’extension.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>&lt;p&gt;Sets up the MALICE engine: a Python environment of its own in your QGIS profile, with every package in a fixed release whose content is checked. QGIS' own Python is not changed. It fetches about 200 MB and takes 700 MB; allow 1.5 GB.&lt;/p&gt;&lt;p&gt;&lt;b&gt;install:&lt;/b&gt; makes the engine, if it is not there as it should be. &lt;b&gt;repair:&lt;/b&gt; makes it anew. &lt;b&gt;remove:&lt;/b&gt; deletes it (models you installed stay). &lt;b&gt;check:&lt;/b&gt; tries it. &lt;b&gt;diagnose:&lt;/b&gt; a report for asking for help, without passwords.&lt;/p&gt;&lt;p&gt;A new engine is built beside the old one and counts only after it has computed something; what is cancelled or fails leaves the old one as it was.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Without a network:&lt;/b&gt; give a folder of wheels. &lt;b&gt;An engine that is there already&lt;/b&gt; (a checkout, a cluster's module): give the path of its Python.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Installe le moteur MALICE : un environnement Python à part dans votre profil QGIS, avec chaque paquet dans une version fixe dont le contenu est vérifié. Le Python de QGIS n’est pas modifié. Environ 200 Mo sont téléchargés, et 700 Mo occupés ; prévoyez 1,5 Go.&lt;/p&gt;&lt;p&gt;&lt;b&gt;install :&lt;/b&gt; crée le moteur, s’il n’est pas là comme il devrait. &lt;b&gt;repair :&lt;/b&gt; le refait à neuf. &lt;b&gt;remove :&lt;/b&gt; le supprime (les modèles que vous avez installés restent). &lt;b&gt;check :&lt;/b&gt; l’essaie. &lt;b&gt;diagnose :&lt;/b&gt; un rapport pour demander de l’aide, sans mots de passe.&lt;/p&gt;&lt;p&gt;Un nouveau moteur est construit à côté de l’ancien et ne compte qu’après avoir calculé quelque chose ; ce qui est annulé ou échoue laisse l’ancien tel quel.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Sans réseau :&lt;/b&gt; donnez un dossier de paquets (wheels). &lt;b&gt;Un moteur qui existe déjà&lt;/b&gt; (une copie des sources, le module d’un cluster) : donnez le chemin de son Python.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>install, repair, remove, check or diagnose, as described.</source>
        <translation>install, repair, remove, check ou diagnose, comme décrit.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Compute on</source>
        <translation>Calculer sur</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>cpu: any processor. cuda: an NVIDIA GPU as well, on Linux and Windows; fetches 2 GB more. Where no GPU works, the engine for processors is made and the reason told.</source>
        <translation>cpu : n’importe quel processeur. cuda : aussi un GPU NVIDIA, sous Linux et Windows ; télécharge 2 Go de plus. Si aucun GPU ne fonctionne, le moteur pour processeurs est créé et la raison est dite.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Folder of wheels (no network)</source>
        <translation>Dossier de paquets wheel (sans réseau)</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Packages are taken from this folder alone; the help page says how to fill it.</source>
        <translation>Les paquets viennent de ce dossier seulement ; la page d’aide dit comment le remplir.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Python to make it with</source>
        <translation>Python pour le créer</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>A Python from 3.11 to 3.14. Empty: one is looked for.</source>
        <translation>Un Python de 3.11 à 3.14. Vide : on en cherche un.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Engine that is there</source>
        <translation>Moteur existant</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Path of the Python of an engine: it is asked, and used from now on; nothing is made.</source>
        <translation>Chemin du Python d’un moteur : il est interrogé, et sert à partir de maintenant ; rien n’est créé.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Diagnosis</source>
        <translation>Diagnostic</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>HTML files (*.html);;Text files (*.txt)</source>
        <translation>Fichiers HTML (*.html);;Fichiers texte (*.txt)</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Where the diagnosis is written as well.</source>
        <translation>Où le diagnostic est aussi écrit.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Python of the engine that counts</source>
        <translation>Python du moteur qui compte</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>Version of the engine</source>
        <translation>Version du moteur</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>{0} {1} cannot be written: {2}.</source>
        <translation>{0} {1} ne peut pas être écrit : {2}.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>{0} '{1}' is none of {2}.</source>
        <translation>{0} '{1}' n’est aucun de {2}.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The engine is there as it should be, and works: nothing is done. (repair makes it anew.)</source>
        <translation>Le moteur est là comme il devrait, et fonctionne : rien n’est fait. (repair le refait à neuf.)</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The GPU is not used: {} An engine for processors is used instead.</source>
        <translation>Le GPU ne sert pas : {} Un moteur pour processeurs sert à la place.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The engine that is there does not work: {}</source>
        <translation>Le moteur qui est là ne fonctionne pas : {}</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>MALICE engine {0} is used from now on: {1}</source>
        <translation>Le moteur MALICE {0} sert à partir de maintenant : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The setting {0} was {1}; it is {2} now.</source>
        <translation>Le paramètre {0} était {1} ; il est maintenant {2}.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>empty</source>
        <translation>vide</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The environment variable {0} names another engine, which is used as long as it is set: {1}</source>
        <translation>La variable d’environnement {0} nomme un autre moteur, qui sert tant qu’elle est définie : {1}</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The engine is at work: wait for the run to end, or cancel it.</source>
        <translation>Le moteur est au travail : attendez la fin de l’exécution, ou annulez-la.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>{} is held by a program: close other QGIS windows and run this again.</source>
        <translation>{} est tenu par un programme : fermez les autres fenêtres de QGIS et recommencez.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>The engine in {} is removed.</source>
        <translation>Le moteur dans {} est supprimé.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>There was no engine.</source>
        <translation>Il n’y avait pas de moteur.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>It computes on {}.</source>
        <translation>Il calcule sur {}.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>WHEELS: {} is no folder.</source>
        <translation>WHEELS : {} n’est pas un dossier.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>{0}: {1} is no program: give the path of a Python.</source>
        <translation>{0} : {1} n’est pas un programme : donnez le chemin d’un Python.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>ENGINE is an engine that is there: it goes with ACTION install alone.</source>
        <translation>ENGINE est un moteur existant : il ne va qu’avec ACTION install.</translation>
    </message>
    <message>
        <location filename="../algorithms/setup.py"/>
        <source>REPORT {}: give a name that ends in .html or .txt.</source>
        <translation>REPORT {} : donnez un nom qui finit par .html ou .txt.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Similarity search</source>
        <translation>Recherche de similarité</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Finds what is like the places you point at.</source>
        <translation>Trouve ce qui ressemble aux lieux que vous montrez.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>&lt;p&gt;Click a few points, or draw polygons, on what you look for: solar parks, a kind of meadow, a crop. The result says of every pixel how &lt;b&gt;similar&lt;/b&gt; its year is to those of the examples, without any training.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Several examples&lt;/b&gt; count together: the most similar one decides. With FIELD, each value of the field has a band of its own.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Measure:&lt;/b&gt; cosine compares directions (1: the same); it is what embeddings are mostly compared with. euclidean is 1 / (1 + distance), 1 for the same too, and also hears of lengths.&lt;/p&gt;</source>
        <translation>&lt;p&gt;Cliquez quelques points, ou dessinez des polygones, sur ce que vous cherchez : des parcs solaires, une sorte de prairie, une culture. Le résultat dit de chaque pixel à quel point son année est &lt;b&gt;semblable&lt;/b&gt; à celle des exemples, sans aucun entraînement.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Plusieurs exemples&lt;/b&gt; comptent ensemble : le plus semblable décide. Avec FIELD, chaque valeur du champ a sa propre bande.&lt;/p&gt;&lt;p&gt;&lt;b&gt;Mesure :&lt;/b&gt; cosine compare des directions (1 : la même) ; c’est ainsi qu’on compare le plus souvent des plongements. euclidean est 1 / (1 + distance), 1 pour le même aussi, et tient compte aussi des longueurs.&lt;/p&gt;</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Examples (points or polygons)</source>
        <translation>Exemples (points ou polygones)</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Places of what is looked for, in any CRS, also a layer in memory. Selected features only, if told.</source>
        <translation>Lieux de ce qui est cherché, dans n’importe quel SCR, aussi une couche en mémoire. Les entités sélectionnées seulement, si on le demande.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>A band for each value of</source>
        <translation>Une bande pour chaque valeur de</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>A field of the examples; by default one band for all.</source>
        <translation>Un champ des exemples ; par défaut, une bande pour tous.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>cosine: of directions, -1 to 1. euclidean: 1 / (1 + distance) in the space of the embedding, 0 to 1. What is the same has 1 in both.</source>
        <translation>cosine : de directions, de -1 à 1. euclidean : 1 / (1 + distance) dans l’espace du plongement, de 0 à 1. Ce qui est identique vaut 1 dans les deux cas.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Similarity</source>
        <translation>Similarité</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>GeoTIFF, float32, a band for all or a band a value.</source>
        <translation>GeoTIFF, float32, une bande pour tous ou une bande par valeur.</translation>
    </message>
    <message>
        <location filename="../algorithms/similarity.py"/>
        <source>Similarity of embeddings to examples.</source>
        <translation>Similarité de plongements à des exemples.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>Embeddings</source>
        <translation>Plongements</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{} is not set: choose an embedding.</source>
        <translation>{} n’est pas donné : choisissez un plongement.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{0}: there is no file {1}; choose another.</source>
        <translation>{0} : il n’y a pas de fichier {1} ; choisissez-en un autre.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{0}: {1} rasters are given, one is wanted.</source>
        <translation>{0} : {1} rasters sont donnés, il en faut un.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{0}: {1} is no raster that GDAL opens; choose an embedding.</source>
        <translation>{0} : {1} n’est pas un raster que GDAL ouvre ; choisissez un plongement.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{0}: {1} is no embedding: choose a raster that MALICE embed made.</source>
        <translation>{0} : {1} n’est pas un plongement : choisissez un raster fait par MALICE : plongement.</translation>
    </message>
    <message>
        <location filename="../algorithms/tool.py"/>
        <source>{0} and {1} are the same file {2}: give them different names.</source>
        <translation>{0} et {1} sont le même fichier {2} : donnez-leur des noms différents.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0}: the expression {1} has no value.</source>
        <translation>{0} : l’expression {1} n’a pas de valeur.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0}: {1} holds signs that no name has; write it anew.</source>
        <translation>{0} : {1} contient des signes qu’aucun nom n’a ; écrivez-le de nouveau.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0}: '{1}' is no date; write it YYYY-MM-DD.</source>
        <translation>{0} : '{1}' n’est pas une date ; écrivez-la AAAA-MM-JJ.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>DATE_FROM {0} is after DATE_TO {1}; swap them.</source>
        <translation>DATE_FROM {0} est après DATE_TO {1} ; échangez-les.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>a whole number</source>
        <translation>un nombre entier</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>a number</source>
        <translation>un nombre</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} '{1}' is not {2} from {3} to {4}.</source>
        <translation>{0} '{1}' n’est pas {2} de {3} à {4}.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} '{1}' is neither true nor false.</source>
        <translation>{0} '{1}' n’est ni true (vrai) ni false (faux).</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>MEMORY '{}' is no size; write it such as 2GB.</source>
        <translation>MEMORY '{}' n’est pas une taille ; écrivez-la par exemple 2GB.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>Nothing is chosen: give Sentinel-2 and/or Sentinel-1 images as layers or as a folder (INPUT_S2 …).</source>
        <translation>Rien n’est choisi : donnez des images Sentinel-2 et/ou Sentinel-1, en couches ou en dossier (INPUT_S2 …).</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0}: the folder {1} of {2} does not exist.</source>
        <translation>{0} : le dossier {1} de {2} n’existe pas.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>The scene classification belongs to Sentinel-2 images: give those too, or leave it out.</source>
        <translation>La classification de scène va avec des images Sentinel-2 : donnez-les aussi, ou omettez-la.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>MAX_CLOUD {} needs the scene classification: give its layers or folder (SCL, FOLDER_SCL).</source>
        <translation>MAX_CLOUD {} a besoin de la classification de scène : donnez ses couches ou son dossier (SCL, FOLDER_SCL).</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>QUERIES '{}' is no list of queries; write it such as 0,3.</source>
        <translation>QUERIES '{}' n’est pas une liste de requêtes ; écrivez-la par exemple 0,3.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>BLOCK {} is no multiple of 8; blocks are made of 8 pixels.</source>
        <translation>BLOCK {} n’est pas un multiple de 8 ; les blocs sont faits de 8 pixels.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} {1} is a web page: give a name that ends in .html.</source>
        <translation>{0} {1} est une page web : donnez un nom qui finit par .html.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} {1} lies among unfinished work, which is removed: give another folder.</source>
        <translation>{0} {1} se trouve dans un travail inachevé, qui est supprimé : donnez un autre dossier.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} {1} is one of the inputs: give another name.</source>
        <translation>{0} {1} est une des entrées : donnez un autre nom.</translation>
    </message>
    <message>
        <location filename="../checks.py"/>
        <source>{0} {1} cannot be written there: choose a folder that can.</source>
        <translation>{0} {1} ne peut pas être écrit là : choisissez un dossier où c’est possible.</translation>
    </message>
    <message>
        <location filename="../dating.py"/>
        <source>Layer '{0}': its temporal range from {1} to {2} is no day; set the day of sensing.</source>
        <translation>Couche '{0}' : sa plage temporelle, de {1} à {2}, n’est pas un jour ; donnez le jour de l’acquisition.</translation>
    </message>
    <message>
        <location filename="../dialog.py"/>
        <source>Folder…</source>
        <translation>Dossier…</translation>
    </message>
    <message>
        <location filename="../dialog.py"/>
        <source>{0} (needs {1})</source>
        <translation>{0} (a besoin de {1})</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>the setting {}</source>
        <translation>le paramètre {}</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>the environment variable {}</source>
        <translation>la variable d’environnement {}</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>the plugin's own place</source>
        <translation>l’emplacement propre à l’extension</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>run MALICE set-up (malice:setup) in the Processing toolbox, or Plugins &gt; MALICE &gt; Set up the engine; it also takes an engine that is there already</source>
        <translation>exécutez MALICE : installation du moteur (malice:setup) dans la boîte à outils de traitements, ou Extensions &gt; MALICE &gt; Installer le moteur ; un moteur existant convient aussi</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>The MALICE engine is not set up ({0} is not there): {1}.</source>
        <translation>Le moteur MALICE n’est pas installé ({0} n’est pas là) : {1}.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>There is no MALICE engine: {0} says {1}, where there is no Python. Correct that, or empty it and {2}.</source>
        <translation>Il n’y a pas de moteur MALICE : {0} donne {1}, où il n’y a pas de Python. Corrigez cela, ou videz-le et {2}.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>The MALICE engine {0} cannot be started: {1}. Set {2} to the Python of the engine.</source>
        <translation>Le moteur MALICE {0} ne peut pas être démarré : {1}. Donnez à {2} le Python du moteur.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>cancelled</source>
        <translation>annulé</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>The MALICE engine {0} does not answer within {1} seconds.</source>
        <translation>Le moteur MALICE {0} ne répond pas en {1} secondes.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>The MALICE engine {0} (version {1}) speaks contract {2}, this plugin speaks contract {3}: {4}.</source>
        <translation>Le moteur MALICE {0} (version {1}) parle le contrat {2}, cette extension parle le contrat {3} : {4}.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>update the plugin</source>
        <translation>mettez à jour l’extension</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>update the engine</source>
        <translation>mettez à jour le moteur</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>crashed or was killed</source>
        <translation>s’est planté ou a été tué</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>ended with code {}</source>
        <translation>s’est terminé avec le code {}</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>something is missing in it: install it anew, or set {} to another Python</source>
        <translation>il lui manque quelque chose : réinstallez-le, ou donnez à {} un autre Python</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>the machine may have run out of memory: try a smaller MEMORY or BLOCK, with RESUME to go on</source>
        <translation>la mémoire de la machine est peut-être épuisée : essayez un MEMORY ou un BLOCK plus petit, avec RESUME pour continuer</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>try it in a terminal: {} -m malice_core.embed --help</source>
        <translation>essayez-le dans un terminal : {} -m malice_core.embed --help</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>The MALICE engine {0} {1}. Last words: {2}. What to try: {3}.</source>
        <translation>Le moteur MALICE {0} {1}. Derniers mots : {2}. À essayer : {3}.</translation>
    </message>
    <message>
        <location filename="../engine.py"/>
        <source>none</source>
        <translation>aucun</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>An expression among layers or files has no value: check it, or choose them.</source>
        <translation>Une expression parmi les couches ou les fichiers n’a pas de valeur : vérifiez-la, ou choisissez-les.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{}' is no raster layer; choose raster layers.</source>
        <translation>La couche '{}' n’est pas une couche raster ; choisissez des couches raster.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' ({1}) can be read by QGIS only: export it (Layer &gt; Save As...) to GeoTIFF files and choose those.</source>
        <translation>La couche '{0}' ({1}) ne peut être lue que par QGIS : exportez-la (Couche &gt; Enregistrer sous…) en fichiers GeoTIFF et choisissez ceux-ci.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{}' is in the memory of QGIS only: export it (Layer &gt; Save As...) to a file first.</source>
        <translation>La couche '{}' n’existe que dans la mémoire de QGIS : exportez-la d’abord en fichier (Couche &gt; Enregistrer sous…).</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{}' needs a login kept by QGIS, which the engine does not have: download it first.</source>
        <translation>La couche '{}' demande une authentification que QGIS garde et que le moteur n’a pas : téléchargez-la d’abord.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' cannot be opened ({1}): repair its source or leave it out.</source>
        <translation>La couche '{0}' ne peut pas être ouverte ({1}) : réparez sa source ou ne la donnez pas.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' was given the CRS {1} in QGIS, its file says {2}, and the engine reads the file: write it into the file (Raster &gt; Projections &gt; Assign Projection), or undo it.</source>
        <translation>La couche '{0}' a reçu le SCR {1} dans QGIS, son fichier dit {2}, et c’est le fichier que lit le moteur : écrivez-le dans le fichier (Raster &gt; Projections &gt; Assigner une projection), ou revenez en arrière.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>of its own</source>
        <translation>propre à elle</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' has nodata settings made in QGIS (Properties &gt; Transparency), and the engine reads the file: write them into the file (Raster &gt; Conversion &gt; Translate), or undo them.</source>
        <translation>La couche '{0}' a des réglages de valeurs nulles faits dans QGIS (Propriétés &gt; Transparence), et c’est le fichier que lit le moteur : écrivez-les dans le fichier (Raster &gt; Conversion &gt; Convertir), ou revenez en arrière.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}': two dates in the name '{1}': give the layer a temporal range of one day (Properties &gt; Temporal), or rename the file.</source>
        <translation>Couche '{0}' : deux dates dans le nom '{1}' : donnez à la couche une plage temporelle d’un jour (Propriétés &gt; Temporel), ou renommez le fichier.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' has no date: neither in its name '{1}' nor in its tags, and no temporal range of one day. Set one (Properties &gt; Temporal &gt; Fixed time range), or rename the file (…_20180511.tif).</source>
        <translation>La couche '{0}' n’a pas de date : ni dans son nom '{1}', ni dans ses métadonnées, ni par une plage temporelle d’un jour. Donnez-lui-en une (Propriétés &gt; Temporel &gt; Plage de temps fixe), ou renommez le fichier (…_20180511.tif).</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>Layer '{0}' has {1} bands without names; {2} are needed: {3}. Set band descriptions.</source>
        <translation>La couche '{0}' a {1} bandes sans noms ; il en faut {2} : {3}. Donnez des descriptions aux bandes.</translation>
    </message>
    <message>
        <location filename="../layers.py"/>
        <source>None of the chosen layers ('{0}' …) has the band {1}; all of {2} are needed.</source>
        <translation>Aucune des couches choisies ('{0}' …) n’a la bande {1} ; il les faut toutes : {2}.</translation>
    </message>
    <message>
        <location filename="../models.py"/>
        <source>Licence</source>
        <translation>Licence</translation>
    </message>
    <message>
        <location filename="../models.py"/>
        <source>weather, DEM and angles</source>
        <translation>météo, MNT et angles</translation>
    </message>
    <message>
        <location filename="../plugin.py"/>
        <source>Set up the engine…</source>
        <translation>Installer le moteur…</translation>
    </message>
    <message>
        <location filename="../plugin.py"/>
        <source>Diagnosis…</source>
        <translation>Diagnostic…</translation>
    </message>
    <message>
        <location filename="../provider.py"/>
        <source>MALICE: embeddings of satellite image time series</source>
        <translation>MALICE : plongements de séries temporelles d’images satellite</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The plugin in {} comes without its engine: install it from its zip, or, in a checkout of MALICE, by make deploy.</source>
        <translation>L’extension dans {} est venue sans son moteur : installez-la depuis son zip ou, dans une copie des sources de MALICE, par make deploy.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The engine is of another release of the plugin: run MALICE set-up (malice:setup).</source>
        <translation>Le moteur est d’une autre version de l’extension : exécuter MALICE : installation du moteur (malice:setup).</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>the log {0} cannot be written: {1}</source>
        <translation>le journal {0} ne peut pas être écrit : {1}</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The engine is made with {}.</source>
        <translation>Le moteur est créé avec {}.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>No GPU can be used: {}.</source>
        <translation>Aucun GPU ne peut servir : {}.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>its driver does not answer</source>
        <translation>son pilote ne répond pas</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The NVIDIA driver is for CUDA {0}, the engine needs {1}: update the driver.</source>
        <translation>Le pilote NVIDIA est fait pour CUDA {0}, le moteur demande {1} : mettre le pilote à jour.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>{} is a long path: if files cannot be written, let Windows have long ones (the registry's LongPathsEnabled), or use a QGIS profile with a shorter path.</source>
        <translation>{} est un chemin long : si des fichiers ne peuvent pas être écrits, permettez à Windows les chemins longs (LongPathsEnabled dans le registre), ou prenez un profil QGIS dont le chemin est plus court.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The new engine counts from now on: {}</source>
        <translation>Le nouveau moteur compte à partir de maintenant : {}</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The engine needs {0:.1f} GB, {1} has {2:.1f} GB free: make room.</source>
        <translation>Le moteur demande {0:.1f} Go, {1} a {2:.1f} Go libres : faites de la place.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>A virtual environment is made</source>
        <translation>Un environnement virtuel est créé</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>a virtual environment</source>
        <translation>un environnement virtuel</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>Packages are fetched and installed</source>
        <translation>Les paquets sont téléchargés et installés</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>packages</source>
        <translation>paquets</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The engine is tried</source>
        <translation>Le moteur est essayé</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The engine works</source>
        <translation>Le moteur fonctionne</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The new engine does not work: {}</source>
        <translation>Le nouveau moteur ne fonctionne pas : {}</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>MALICE engine {0}: computes on {1}.</source>
        <translation>Moteur MALICE {0} : calcule sur {1}.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>A run still uses the old engine in {}; the next set-up removes it.</source>
        <translation>Une exécution se sert encore de l’ancien moteur dans {} ; la prochaine installation le supprime.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>The old engine in {} is held by a program; the next set-up removes it.</source>
        <translation>L’ancien moteur dans {} est tenu par un programme ; la prochaine installation le supprime.</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>Installing {0} failed: {1}</source>
        <translation>L’installation de {0} a échoué : {1}</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>a file is not the one that is expected</source>
        <translation>un fichier n’est pas celui qui est attendu</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>the server's certificate is not trusted: see Proxies in the help page</source>
        <translation>le certificat du serveur n’est pas reconnu : voyez Proxies dans la page d’aide</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>the proxy refuses: set it in Settings &gt; Options &gt; Network</source>
        <translation>le proxy refuse : réglez-le dans Préférences &gt; Options &gt; Réseau</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>the package index cannot be reached: is there a network? Without one give a folder of wheels (WHEELS)</source>
        <translation>l’index des paquets ne peut pas être atteint : y a-t-il un réseau ? Sans réseau, donnez un dossier de paquets (WHEELS)</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>a package is missing in the folder of wheels, or in the index for this system and Python</source>
        <translation>un paquet manque dans le dossier de paquets, ou dans l’index pour ce système et ce Python</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>the disk is full: make room</source>
        <translation>le disque est plein : faites de la place</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>a file may not be written, or a program holds it</source>
        <translation>un fichier ne peut pas être écrit, ou un programme le tient</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>killed</source>
        <translation>tué</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>code {}</source>
        <translation>code {}</translation>
    </message>
    <message>
        <location filename="../setup/building.py"/>
        <source>Installing {0} failed{1}: {2}. The engine of before was not touched; the log is {3}.</source>
        <translation>L’installation de {0} a échoué{1} : {2}. Le moteur d’avant n’a pas été touché ; le journal est {3}.</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>MALICE diagnosis</source>
        <translation>Diagnostic de MALICE</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>The diagnosis itself failed:</source>
        <translation>Le diagnostic lui-même a échoué :</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>The engine is asked…</source>
        <translation>Le moteur est interrogé…</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>Copy</source>
        <translation>Copier</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>Passwords, tokens and the name of your folder are not in it.</source>
        <translation>Il n’y a dedans ni mots de passe, ni jetons, ni le nom de votre dossier.</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>Cancelled. Open this window anew for the diagnosis.</source>
        <translation>Annulé. Rouvrir cette fenêtre pour avoir le diagnostic.</translation>
    </message>
    <message>
        <location filename="../setup/dialog.py"/>
        <source>Copied</source>
        <translation>Copié</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>{} is damaged: install the plugin anew.</source>
        <translation>{} est endommagé : réinstallez l’extension.</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>This Python comes without pip (Debian, Ubuntu: sudo apt install python3-venv)</source>
        <translation>Ce Python vient sans pip (Debian, Ubuntu : sudo apt install python3-venv)</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>{0}, and the folder {1} has no {2}: put it there.</source>
        <translation>{0}, et le dossier {1} n’a pas {2} : mettez-le là.</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>{0}, and {1} is not the file that was expected.</source>
        <translation>{0}, et {1} n’est pas le fichier attendu.</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>{0} cannot be fetched: {1}.</source>
        <translation>{0} ne peut pas être téléchargé : {1}.</translation>
    </message>
    <message>
        <location filename="../setup/pips.py"/>
        <source>Everything is fetched; now it is unpacked, which takes a minute.</source>
        <translation>Tout est téléchargé ; il faut maintenant décompresser, ce qui prend une minute.</translation>
    </message>
    <message>
        <location filename="../setup/places.py"/>
        <source>Another set-up of the MALICE engine is under way: wait for it, or cancel it.</source>
        <translation>Une autre installation du moteur MALICE est en cours : attendez-la, ou annulez-la.</translation>
    </message>
    <message>
        <location filename="../setup/platforms.py"/>
        <source>install Python {0} (64 bit) from https://www.python.org/downloads/windows/</source>
        <translation>installez Python {0} (64 bits) depuis https://www.python.org/downloads/windows/</translation>
    </message>
    <message>
        <location filename="../setup/platforms.py"/>
        <source>install Python {0} from https://www.python.org/downloads/macos/ (or: brew install python@{0})</source>
        <translation>installez Python {0} depuis https://www.python.org/downloads/macos/ (ou : brew install python@{0})</translation>
    </message>
    <message>
        <location filename="../setup/platforms.py"/>
        <source>install Python {0} with the system's packages (Debian, Ubuntu: sudo apt install python{0}; Fedora: sudo dnf install python{0})</source>
        <translation>installez Python {0} avec les paquets du système (Debian, Ubuntu : sudo apt install python{0} ; Fedora : sudo dnf install python{0})</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>it does not answer as a Python does: {}</source>
        <translation>il ne répond pas comme un Python : {}</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>it ends with code {}</source>
        <translation>il se termine avec le code {}</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>version {0} is not one of {1} to {2}</source>
        <translation>la version {0} n’est pas entre {1} et {2}</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>it is another kind of Python ({}): the engine's packages are made for the usual one</source>
        <translation>c’est une autre sorte de Python ({}) : les paquets du moteur sont faits pour la sorte habituelle</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>free-threaded</source>
        <translation>sans verrou global (free-threaded)</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>there are no packages for {0} {1} with {2} bits</source>
        <translation>il n’y a pas de paquets pour {0} {1} en {2} bits</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>on Macs with Intel processors the newest that packages are made for is {}</source>
        <translation>sur les Mac à processeur Intel, la plus récente pour laquelle il y a des paquets est {}</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>PYTHON {0} cannot be used: {1}. Leave it empty, or {2}.</source>
        <translation>PYTHON {0} ne peut pas servir : {1}. Laissez-le vide, ou {2}.</translation>
    </message>
    <message>
        <location filename="../setup/pythons.py"/>
        <source>No Python from {0} to {1} was found (QGIS' own is {2}; {3} others were tried): {4}, then run this again, or give its path as PYTHON.</source>
        <translation>Aucun Python de {0} à {1} n’a été trouvé (celui de QGIS est {2} ; {3} autres ont été essayés) : {4}, puis recommencez, ou donnez son chemin comme PYTHON.</translation>
    </message>
    <message>
        <location filename="../setup/report.py"/>
        <source>MALICE diagnosis, {}</source>
        <translation>Diagnostic de MALICE, {}</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>Embedding of a satellite image time series.</source>
        <translation>Plongement (embedding) d’une série temporelle d’images satellite.</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>changed</source>
        <translation>changé</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>significance</source>
        <translation>significativité</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>query {0}: bands {1}</source>
        <translation>requête {0} : bandes {1}</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>query {}</source>
        <translation>requête {}</translation>
    </message>
    <message>
        <location filename="../styling/looks.py"/>
        <source>band {}</source>
        <translation>bande {}</translation>
    </message>
    <message>
        <location filename="../styling/painting.py"/>
        <source>Model: {0} ({1}). {2}</source>
        <translation>Modèle : {0} ({1}). {2}</translation>
    </message>
    <message>
        <location filename="../styling/painting.py"/>
        <source>Numbers: {}</source>
        <translation>Nombres : {}</translation>
    </message>
    <message>
        <location filename="../styling/painting.py"/>
        <source>Dates {}</source>
        <translation>Dates {}</translation>
    </message>
    <message>
        <location filename="../styling/painting.py"/>
        <source>model: {}</source>
        <translation>modèle : {}</translation>
    </message>
    <message>
        <location filename="../styling/painting.py"/>
        <source>embedding</source>
        <translation>plongement</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>DEM: {} rasters are given, one is wanted: join them (Raster &gt; Miscellaneous &gt; Merge).</source>
        <translation>DEM : {} rasters sont donnés, il en faut un : fusionnez-les (Raster &gt; Divers &gt; Fusion).</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>, or a number of degrees</source>
        <translation>, ou un nombre de degrés</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>{0}: there is no {1}; check the path, or choose another file or folder{2}.</source>
        <translation>{0} : il n’y a pas de {1} ; vérifiez le chemin, ou choisissez un autre fichier ou dossier{2}.</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>DEM: {0} is {1}; choose a raster file with elevations in metres.</source>
        <translation>DEM : {0} est {1} ; choisissez un fichier raster d’altitudes en mètres.</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>no raster but vector data</source>
        <translation>non pas un raster mais des données vectorielles</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>no raster that GDAL opens</source>
        <translation>un fichier que GDAL n’ouvre pas comme raster</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>MODEL {0} sees images alone: leave out {1}, or choose a model of MALICE Aux.</source>
        <translation>MODEL {0} ne voit que des images : ne donnez pas {1}, ou choisissez un modèle MALICE Aux.</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>{0} belongs to {1} images: give those too, or leave it out.</source>
        <translation>{0} va avec des images {1} : donnez-les aussi, ou ne le donnez pas.</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source> (or set ANGLES to median, for want of angles)</source>
        <translation> (ou mettez ANGLES à median, faute d’angles)</translation>
    </message>
    <message>
        <location filename="../surroundings.py"/>
        <source>MODEL {0} needs {1} besides images: give {2}{3}.</source>
        <translation>MODEL {0} a besoin de {1} en plus des images : donnez {2}{3}.</translation>
    </message>
    <message>
        <location filename="../tables.py"/>
        <source>{0}: {1} cannot be written: {2}</source>
        <translation>{0} : {1} ne peut pas être écrit : {2}</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>The engine's table {} lacks the numbers of points: update the engine.</source>
        <translation>Il manque les numéros des points à la table {} du moteur : mettez le moteur à jour.</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>the disk may be full</source>
        <translation>le disque est peut-être plein</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>OUTPUT cannot be written: {}.</source>
        <translation>OUTPUT ne peut pas être écrit : {}.</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>FIELD {0}: {1} has no such field, it has {2}.</source>
        <translation>FIELD {0} : {1} n’a pas ce champ, il a {2}.</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>{0}: {1} has no CRS, so nobody knows where it lies: set it (Layer &gt; Set CRS).</source>
        <translation>{0} : {1} n’a pas de SCR, donc personne ne sait où cela se trouve : donnez-en un (Couche &gt; Définir le SCR).</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>{0} cannot be handed to the engine ({1}: {2}): make room in the temporary folder.</source>
        <translation>{0} ne peut pas être transmis au moteur ({1} : {2}) : faites de la place dans le dossier temporaire.</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>{0}: {1} has no shapes, or none of them is selected: choose others.</source>
        <translation>{0} : {1} n’a pas de géométries, ou aucune n’est sélectionnée : choisissez-en d’autres.</translation>
    </message>
    <message>
        <location filename="../vectors.py"/>
        <source>layer '{}'</source>
        <translation>couche '{}'</translation>
    </message>
    <message>
        <location filename="../wrappers.py"/>
        <source>{} cannot be written into a list of many images: rename it.</source>
        <translation>{} ne peut pas être écrit dans une liste de nombreuses images : renommez-le.</translation>
    </message>
    <message>
        <location filename="../wrappers.py"/>
        <source>Layers of {0} and {1} have the same name and date: rename one of the files.</source>
        <translation>Les couches de {0} et de {1} ont le même nom et la même date : renommez un des fichiers.</translation>
    </message>
    <message>
        <location filename="../wrappers.py"/>
        <source>Layer '{0}' cannot be opened: {1}.</source>
        <translation>La couche '{0}' ne peut pas être ouverte : {1}.</translation>
    </message>
    <message>
        <location filename="../wrappers.py"/>
        <source>Layer '{0}': cannot write {1}; free disk space.</source>
        <translation>Couche '{0}' : impossible d’écrire {1} ; libérez de l’espace disque.</translation>
    </message>
    <message>
        <location filename="../wrappers.py"/>
        <source>The profile cannot be written to ({0}: {1}): make room or set its permissions, or give a folder of images in place of layers.</source>
        <translation>Impossible d’écrire dans le profil ({0} : {1}) : faites de la place ou changez ses droits, ou donnez un dossier d’images au lieu de couches.</translation>
    </message>
</context>
</TS>
